"""Run a list of measurements, each in its own process, and save every result immediately.

python -m benchmarks.campaign cpu                  # benchmarks/results/cpu.json
python -m benchmarks.campaign fit                  # benchmarks/results/fit.json
python -m benchmarks.campaign gpu --seconds=540    # benchmarks/results/<device>.json; benchmarks/gpu.sh does this

Points that are in the file are skipped, so the same command continues where it was stopped. A point with a missing
package is not saved. `--table` prints the file as Markdown.
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
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from benchmarks import job, kernels, limits, result_files, tables
from benchmarks.machine import FREE, ROOT, check_gpu, gpu_name, machine
from benchmarks.points import Point, cpu_points, fit_points, gpu_points, tiny

AGAIN = 75  # exit code: not done yet, run again


class NotInstalled(RuntimeError):
    """A program cannot import a package."""


def run_apart(point: Point, timeout: float | None) -> dict:
    """Run a point in its own process and return the JSON object that it prints last.

    Its process group is killed at `timeout` or on an exception, because an orphaned process would hold the GPU.

    Raises:
      RuntimeError: it failed; the message is the end of its stderr.
      NotInstalled: a package is missing.
    """
    command = [sys.executable, "-m", point.program, *point.arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        lacks = re.search(r"^(ImportError|ModuleNotFoundError)\b", errors, re.MULTILINE)
        raise (NotInstalled if lacks else RuntimeError)(f"exit code {process.returncode}: {errors.strip()[-500:]}")
    return json.loads(output.splitlines()[-1])


def run_here(point: Point, timeout: float | None) -> dict:
    """Run a point in this process, for a dry run; this saves the imports."""
    from benchmarks import throughput

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
) -> bool:
    """Measure the points that are not in `path` yet, add them to it, and return whether all are done.

    A point that fails is saved with its `error` and only repeated with `retry`. It stops between two points before
    `seconds` have passed; a point that exceeds the remaining time is the first to be tried next time.

    Raises:
      ConfigError: a result is from another device than `device`, or a package is missing; neither is saved.
    """
    results = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "points": {}}
    start, first, lacking = time.monotonic(), True, {}
    for point in points:
        saved = results["points"].get(point.command)
        if saved and not (retry and "error" in saved):
            continue
        left = seconds - (time.monotonic() - start)
        if not first and left < point.seconds:
            return False
        print(point.command, flush=True)
        entry = {"measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        try:
            entry["result"] = run(point, None if left == math.inf else max(left, 1.0))
        except subprocess.TimeoutExpired:
            if not first:
                return False
            entry["error"] = f"took more than {seconds:.0f} s"
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
        first = False
    if lacking:
        command, error = next(iter(lacking.items()))
        raise ConfigError(f"{len(lacking)} points cannot start: {error}", command, "install that and run again")
    return True


def summary(result: dict) -> str:
    keys = ("images_per_second", "ratio_to_torch", "extrapolated_s", "busy")
    texts = [f"{key} {result[key]:.3g}" for key in keys if result.get(key)]
    return ", ".join(texts + [result["note"]] if "note" in result else texts)


def main(arguments: list[str] | None = None) -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("cpu", "fit", "gpu"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop between points before so many")
    parser.add_argument("--source", default="synthetic:9750", help="of the paper's job; its train split is 80 %%")
    parser.add_argument("--out", type=pathlib.Path, help="the results, if not benchmarks/results/<device>.json")
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
    out = args.out or result_files.RESULTS / f"{name}.json"
    points = {"cpu": cpu_points, "fit": fit_points, "gpu": functools.partial(gpu_points, args.source)}[args.name]()
    if args.table:
        print(tables.all_of(json.loads(out.read_text())))
        return 0
    if args.dry_run:
        points = tiny(points)
    elif args.name != "fit" and importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install torch==2.13.0")
    device = "gpu" if args.name == "gpu" and not args.dry_run else None
    try:
        if device:
            check_gpu()
        left = args.seconds - (time.monotonic() - start)
        done = campaign(points, out, left, run_here if args.dry_run else run_apart, args.retry, device)
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
