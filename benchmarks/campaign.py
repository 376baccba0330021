"""Run a list of measurements, each in its own process, and save every result immediately.

python -m benchmarks.campaign cpu                  # benchmarks/results/cpu.json
python -m benchmarks.campaign fit                  # benchmarks/results/fit.json
python -m benchmarks.campaign gpu --seconds=540    # runs/gpu/<device>.json; benchmarks/gpu.sh does this

Points that are already in the file are skipped, so the same command continues where it was stopped. A point with a
missing package is not saved. `--table` prints the file as Markdown. `--copy_to` copies the results after each point.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from benchmarks import job, kernels, limits, result_files, tables
from benchmarks.machine import AGAIN, FREE, POINT_SECONDS, ROOT, check_gpu, gpu_name, machine
from benchmarks.points import CROP_PART1, DATA, Point, cpu_points, fit_points, gpu_points, tiny
from benchmarks.results_copy import ResultsCopy

CONTINUE = 45.0  # seconds in which a stopped point is worth starting again


class NotInstalled(RuntimeError):
    """A program cannot import a package."""


class Unfinished(RuntimeError):
    """A program stopped at its time limit and will continue at its next start."""


def run_apart(point: Point, timeout: float | None) -> dict:
    """Run a point in its own process and return the JSON object that it prints last.

    Its process group is killed at `timeout` or on an exception, because an orphaned process would hold the GPU.

    Raises:
      RuntimeError: it failed; the message is the end of its stderr.
      NotInstalled: a package is missing.
      Unfinished: it stopped before `timeout`.
    """
    command = [sys.executable, "-m", point.program, *point.arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | ({} if timeout is None else {POINT_SECONDS: str(timeout)})
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode == AGAIN:
        raise Unfinished(errors.strip()[-200:])
    if process.returncode:
        lacks = re.search(r"^(ImportError|ModuleNotFoundError)\b", errors, re.MULTILINE)
        raise (NotInstalled if lacks else RuntimeError)(f"exit code {process.returncode}: {errors.strip()[-500:]}")
    return json.loads(output.splitlines()[-1])


def run_here(point: Point, timeout: float | None) -> dict:
    """Run a point in this process, for a dry run; this saves the imports."""
    from benchmarks import throughput

    if point.program in ("benchmarks.full_size", "benchmarks.resume"):
        return run_apart(point, timeout)
    config = ran.get_config()
    config.update_from_flattened_dict(point.fields)
    if point.program == "benchmarks.limits":
        return limits.measure(small=True)
    if point.program == "benchmarks.job":
        return job.measure(point.arguments)
    if point.program == "benchmarks.kernels":
        return kernels.measure(config, point.flags["steps"])
    return throughput.measure(point.flags["what"], config, point.flags["steps"])


def campaign(
    points: Iterator[Point],
    path: pathlib.Path,
    seconds: float,
    run=run_apart,
    retry: bool = False,
    device: str | None = None,
    copy: Callable[[], None] = lambda: None,
) -> bool:
    """Measure the points that are not in `path` yet, add them to it, and return whether all are done.

    A point that fails, or exceeds its limit, is saved with its `error` and only repeated with `retry`. The campaign
    stops between two points before `seconds` have passed: a point that does not fit is left for the next time, and
    shorter ones after it are measured. A point that exceeds the remaining time is tried first next time. A point whose
    files are missing is left out.

    Args:
      copy: called at the start and after each point.

    Raises:
      ConfigError: a result is from another device than `device`, or a package is missing; neither is saved.
    """
    results = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "points": {}}
    if data := packed_data():
        results["data"] = results.get("data", {}) | data
    start, first, lacking, waiting = time.monotonic(), True, {}, False
    copy()
    for point in points:
        saved = results["points"].get(point.command)
        if saved and not (retry and "error" in saved):
            continue
        if absent := [name for name in point.needs if not (ROOT / name).exists()]:
            print(f"left out, without {absent[0]}: {point.command}", flush=True)
            continue
        left = seconds - (time.monotonic() - start)
        if not first and left < point.seconds:
            waiting = True
            continue
        print(point.command, flush=True)
        entry = {"measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        limit = min(max(left, 1.0), point.limit)
        try:
            entry["result"] = finished(point, limit, run, start + seconds)
        except Unfinished:
            waiting, first = True, False
            continue
        except subprocess.TimeoutExpired:
            if not first and limit < point.limit:
                return False
            entry["error"] = f"took more than {limit:.0f} s"
        except NotInstalled as error:
            lacking[point.command] = str(error).splitlines()[-1]
            print(f"  {error}", flush=True)
            continue
        except RuntimeError as error:
            entry["error"] = str(error)
        if device and "result" in entry and entry["result"]["device"] != device:
            raise ConfigError(f"measured on {entry['result']['device']}, not on {device}", point.command, FREE)
        print(f"  {entry.get('error') or summary(entry['result'])}", flush=True)
        results["points"][point.command] = entry
        path.parent.mkdir(parents=True, exist_ok=True)
        result_files.write(path, results)
        copy()
        first = False
    if lacking:
        command, error = next(iter(lacking.items()))
        raise ConfigError(f"{len(lacking)} points cannot start: {error}", command, "install that and run again")
    return not waiting


def finished(point: Point, limit: float, run: Callable, until: float) -> dict:
    """Return the result of a point, which is started again as long as it stops unfinished and there is time.

    Args:
      limit: seconds of the first start.
      until: time.monotonic at which the campaign ends.
    """
    while True:
        try:
            return run(point, None if limit == math.inf else limit)
        except Unfinished as stopped:
            print(f"  {stopped}", flush=True)
            limit = min(until - time.monotonic(), point.limit)
            if limit < CONTINUE:
                raise


def packed_data() -> dict[str, dict]:
    """Return the information that gpu_package.py has written about each file of packed faces."""
    folder = ROOT / DATA
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}


def summary(result: dict) -> str:
    if result.get("what") == "full_size":
        scores = ("gender_accuracy", "age_accuracy", "aabd")
        nets = [
            " ".join([net, *(f"{name} {line[name]:.3f}" for name in scores)]) for net, line in result["nets"].items()
        ]
        return "; ".join([*nets, result["note"]] if "note" in result else nets)
    if result.get("what") == "resume":
        return f"equal bit for bit: {result['equal']}, images_per_second {result['images_per_second']:.3g}"
    if result.get("what") == "limits":
        return ", ".join(f"{name} {rate:.3g}" for name, rate in result["jax"].items())
    keys = ("images_per_second", "ratio_to_torch", "extrapolated_s", "busy")
    texts = [f"{key} {result[key]:.3g}" for key in keys if result.get(key)]
    return ", ".join(texts + [result["note"]] if "note" in result else texts)


def main(arguments: list[str] | None = None) -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("cpu", "fit", "gpu"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop between points before so many")
    parser.add_argument("--source", help="of the paper's job; packed crop_part1 if it is there, else synthetic:9750")
    parser.add_argument("--out", type=pathlib.Path, help="the results, if not benchmarks/results or runs/gpu")
    parser.add_argument("--copy_to", type=pathlib.Path, help="copy the results and the trained nets to this folder")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown and measure nothing")
    parser.add_argument("--dry-run", action="store_true", help="one tiny point of each kind, here; needs --out")
    args = parser.parse_args(arguments)
    gpu = gpu_name() if args.name == "gpu" else None
    if args.dry_run and not args.out:
        parser.error("--dry-run needs --out")
    if args.name == "gpu" and not (gpu or args.out):
        parser.error("no GPU was found; --dry-run --out=FILE shows on CPU that the campaign runs")
    name = re.sub("[^a-z0-9]+", "-", (gpu or args.name).lower()).strip("-")
    earlier = result_files.RESULTS / f"{name}.json"
    out = args.out or (ROOT / "runs" / "gpu" / earlier.name if args.name == "gpu" else earlier)
    if args.name == "gpu" and not args.out and earlier.exists() and not out.exists():  # continued on another machine
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(earlier, out)
    source = args.source or (CROP_PART1 if (ROOT / CROP_PART1).exists() else "synthetic:9750")
    points = {"cpu": cpu_points, "fit": fit_points, "gpu": functools.partial(gpu_points, source)}[args.name]()
    if args.table:
        print(tables.all_of(json.loads(out.read_text())))
        return 0
    if args.dry_run:
        points = tiny(points, out.parent / "dry-run")
    elif args.name != "fit" and importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install torch==2.13.0")
    device = "gpu" if args.name == "gpu" and not args.dry_run else None
    try:
        if device:
            check_gpu()
        left = args.seconds - (time.monotonic() - start)
        copy = ResultsCopy(out, args.copy_to) if args.copy_to else lambda: None
        done = campaign(points, out, left, run_here if args.dry_run else run_apart, args.retry, device, copy)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    if not done:
        print("not done yet: run again")
        return AGAIN
    print(f"done: {out}\n\n{tables.all_of(json.loads(out.read_text()))}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(AGAIN))  # so that the point in progress ends too
    sys.exit(main())
