"""Run a list of measurements, each in its own process, and save every result immediately.

python -m benchmarks.campaign cpu                  # benchmarks/results/cpu.json
python -m benchmarks.campaign fit                  # benchmarks/results/fit.json
python -m benchmarks.campaign gpu --seconds=540    # runs/gpu/<device>.json; benchmarks/gpu.sh does this

Points that are already in the file are skipped, so the same command continues where it was stopped. A point that
reached its time limit is tried once more by a later command, after the others of its stage. A point with a missing
package is not saved. `--table` prints the file as Markdown. `--copy_to` copies the results after each point.
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
from collections.abc import Callable, Iterable

from agegender_jax.cli.exits import guard
from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from benchmarks import job, kernels, limits, result_files, tables
from benchmarks.full_size import SCORES
from benchmarks.machine import AGAIN, FREE, POINT_SECONDS, ROOT, check_gpu, gpu_name, machine, without_folders
from benchmarks.points import CROP_PART1, DATA, Point, cpu_points, fit_points, gpu_points, tiny, without_torch
from benchmarks.results_copy import ResultsCopy

TRIES = 2  # of a point that reaches its time limit


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
        lacks = re.search(r"^(ImportError|ModuleNotFoundError)\b|modules that are not installed", errors, re.MULTILINE)
        raise (NotInstalled if lacks else RuntimeError)(f"exit code {process.returncode}: {errors.strip()[-500:]}")
    return json.loads(output.splitlines()[-1])


def run_here(point: Point, timeout: float | None) -> dict:
    """Run a point in this process, for a dry run; this saves the imports."""
    from benchmarks import throughput

    if point.program in ("benchmarks.full_size", "benchmarks.resume"):
        return run_apart(point, timeout)
    config = ran.get_config()
    config.update_from_flattened_dict(point.fields)
    against = point.flags.get("against") is not None and importlib.util.find_spec("torch") is not None
    if point.program == "benchmarks.limits":
        return limits.measure(small=True)
    if point.program == "benchmarks.job":
        return job.measure(point.arguments)
    if point.program == "benchmarks.kernels":
        return kernels.measure(config, point.flags["steps"])
    return throughput.measure(point.flags["what"], config, point.flags["steps"], against_torch=against)


def campaign(
    points: Iterable[Point],
    path: pathlib.Path,
    seconds: float,
    run=run_apart,
    retry: bool = False,
    device: str | None = None,
    copy: Callable[[], None] = lambda: None,
) -> bool:
    """Measure the points that are not in `path` yet, add them to it, and return whether all are done.

    The order is that of `next_point`. A point that does not fit into the remaining seconds is left for the next time,
    and shorter ones after it are measured. A point that fails is saved with its `error` and only repeated with `retry`.
    One that is ended at its own limit is tried once more by a later call, then saved as an error; one that is ended
    because `seconds` have passed is just tried again. A point whose files are missing is left out.

    Args:
      copy: called at the start and after each point.

    Raises:
      ConfigError: a result is from another device than `device`, or a package is missing; neither is saved.
    """
    results = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "points": {}}
    if data := packed_data():
        results["data"] = results.get("data", {}) | data
    tried = results.setdefault("tried", {})
    points = [point for point in points if point.command in results["points"] or is_possible(point)]
    for point in points:
        saved = results["points"].get(point.command, {})
        if retry and "error" in saved and is_possible(point):
            tried[point.command] = [results["points"].pop(point.command)["error"]]
    end, first, lacking, closed = time.monotonic() + seconds, True, {}, set()
    copy()
    while point := next_point(points, results, closed, math.inf if first else end - time.monotonic()):
        print(point.command, flush=True)
        measured = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        limit = min(max(end - time.monotonic(), 1.0), point.limit)
        outcome, value = attempt(point, limit, run, tried.get(point.command, []))
        print(f"  {summary(value) if outcome == 'result' else value}", flush=True)
        if outcome in ("lacks", "timed_out"):
            closed.add(point.command)
        if outcome == "lacks":
            lacking[point.command] = value.splitlines()[-1]
            continue
        first = False
        if device and outcome == "result" and value["device"] != device:
            raise ConfigError(f"measured on {value['device']}, not on {device}", point.command, FREE)
        if outcome in ("result", "error"):
            results["points"][point.command] = {"measured": measured, outcome: value}
            if results["machine"] != (here := machine()):  # a campaign that is continued on another GPU machine
                results["points"][point.command]["machine"] = here
            tried.pop(point.command, None)
        else:
            tried.setdefault(point.command, []).append(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        result_files.write(path, results)
        copy()
    if lacking:
        command, error = next(iter(lacking.items()))
        raise ConfigError(f"{len(lacking)} points cannot start: {error}", command, "install that and run again")
    return all(point.command in results["points"] for point in points)


def attempt(point: Point, limit: float, run: Callable, tried: list[str]) -> tuple[str, dict | str]:
    """Run a point; return "result" with its result, or "error", "lacks", "stopped" or "timed_out" with a note.

    Args:
      tried: the notes of earlier attempts.
    """
    try:
        return "result", run(point, None if limit == math.inf else limit)
    except NotInstalled as error:
        return "lacks", str(error)
    except Unfinished as error:
        return "stopped", str(error)
    except subprocess.TimeoutExpired:
        if limit < point.limit:
            return "timed_out", f"the call ended after {limit:.0f} s"
        note = f"took more than {limit:.0f} s"
        return ("error", f"{note}, {TRIES} times") if tried.count(note) == TRIES - 1 else ("timed_out", note)
    except RuntimeError as error:
        return "error", without_folders(str(error))


def is_possible(point: Point) -> bool:
    """Return whether the files of a point exist; print the first that does not."""
    absent = [name for name in point.needs if not (ROOT / name).exists()]
    if absent:
        print(f"left out, without {absent[0]}: {point.command}", flush=True)
    return not absent


def next_point(points: list[Point], results: dict, closed: set[str], left: float) -> Point | None:
    """Return the open point of the lowest stage that was tried least, the first of these; None if none is left.

    Args:
      closed: commands of points that are not tried now.
      left: seconds, into which it must fit.
    """
    done = closed | results["points"].keys()
    fitting = [point for point in points if point.command not in done and point.seconds <= left]
    tries = {command: len(notes) for command, notes in results["tried"].items()}
    return min(fitting, key=lambda point: (point.stage, tries.get(point.command, 0)), default=None)


def measured_on(path: pathlib.Path) -> dict | None:
    """Return the machine of a results file, or None without one."""
    return json.loads(path.read_text()).get("machine") if path.exists() else None


def packed_data() -> dict[str, dict]:
    """Return the information that gpu_package.py has written about each file of packed faces."""
    folder = ROOT / DATA
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}


def summary(result: dict) -> str:
    if result.get("what") == "limits":
        return ", ".join(f"{name} {rate:.3g}" for name, rate in result["jax"].items())
    keys = ("images_per_second", "ratio_to_torch", "extrapolated_s", "busy", "of_plain", *SCORES)
    texts = [f"{key} {result[key]:.3g}" for key in keys if result.get(key)]
    texts += [f"equal bit for bit: {result['equal']}"] if "equal" in result else []
    return ", ".join(texts + [result["note"]] if "note" in result else texts)


def main(arguments: list[str] | None = None) -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("cpu", "fit", "gpu"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop between points before so many")
    parser.add_argument("--source", default=CROP_PART1, help="of the paper's job; synthetic:9750 for drawn faces")
    parser.add_argument("--out", type=pathlib.Path, help="the results, if not benchmarks/results or runs/gpu")
    parser.add_argument("--copy_to", type=pathlib.Path, help="copy the results and the trained nets to this folder")
    parser.add_argument("--retry", action="store_true", help="repeat the points that failed")
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
    points = {"cpu": cpu_points, "fit": fit_points, "gpu": functools.partial(gpu_points, args.source)}[args.name]()
    if args.table:
        print(tables.all_of(json.loads(out.read_text())))
        return 0
    if args.dry_run:
        points = tiny(points, out.parent / "dry-run")
    elif args.name == "cpu" and importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install torch==2.13.0")
    device = "gpu" if args.name == "gpu" and not args.dry_run else None
    if args.name != "gpu" and (of := measured_on(out)) not in (None, machine()):
        parser.error(f"{out} has results of another machine, {of}: name another file with --out")
    try:
        if device and (problem := check_gpu()):
            print(f"nothing is compared with PyTorch: {problem}", flush=True)
            points = map(without_torch, points)
        left = args.seconds - (time.monotonic() - start)
        copy = ResultsCopy(out, args.copy_to) if args.copy_to else lambda: None
        done = campaign(points, out, left, run_here if args.dry_run else run_apart, args.retry, device, copy)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    results = json.loads(out.read_text()) if out.exists() else {"points": {}}
    errors = [entry for entry in results["points"].values() if "error" in entry]
    failed = f"; {len(errors)} points failed (--retry repeats them)" if errors else ""
    if not done:
        print(f"not done yet: run again{failed}")
        return AGAIN
    print(f"done: {out}{failed}\n\n{tables.all_of(results)}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(AGAIN))  # so that the point in progress ends too
    sys.exit(guard(main))
