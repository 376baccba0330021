"""Runs a table of measurements, each in a process of its own, and keeps every line as soon as it is there.

python -m benchmarks.campaign cpu                  # benchmarks/results/cpu.json
python -m benchmarks.campaign fit                  # benchmarks/results/fit.json
python -m benchmarks.campaign gpu --seconds=540    # benchmarks/results/<device>.json; benchmarks/gpu.sh does this

Points that the file holds are passed over, so the same command goes on where it was stopped. A point that cannot
import what it needs is not kept. `--table` prints the file as Markdown.
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
    """A program cannot import what it needs."""


def run_apart(point: Point, timeout: float | None) -> dict:
    """The JSON object that the command prints last. RuntimeError tells the end of its stderr.

    What it has started ends with it where it outlasts `timeout` or is broken off: a process left behind holds a GPU.
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
    """The same in this process, for a dry run: it saves the imports."""
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
    """Measures what `path` does not hold yet and adds it there; whether all is done.

    A point that fails is kept with its `error` and is tried again with `retry` alone. Before `seconds` are over it
    stops between two points; a point that outlasts what is left is tried again first the next time.

    Raises:
      ConfigError: a result is not of `device`, or points lack something to import: neither is kept.
    """
    found = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "points": {}}
    begun, first, lacking = time.monotonic(), True, {}
    for point in points:
        have = found["points"].get(point.command)
        if have and not (retry and "error" in have):
            continue
        left = seconds - (time.monotonic() - begun)
        if not first and left < point.seconds:
            return False
        print(point.command, flush=True)
        kept = {"measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        try:
            kept["result"] = run(point, None if left == math.inf else max(left, 1.0))
        except subprocess.TimeoutExpired:
            if not first:
                return False
            kept["error"] = f"took more than {seconds:.0f} s"
        except NotInstalled as error:
            lacking[point.command] = str(error).splitlines()[-1]
            print(f"  {error}", flush=True)
            continue
        except RuntimeError as error:
            kept["error"] = str(error)
        if device and "result" in kept and kept["result"]["device"] != device:
            raise ConfigError(f"measured on {kept['result']['device']}, not on {device}", point.command, FREE)
        print(f"  {kept.get('error') or summary(kept['result'])}", flush=True)
        found["points"][point.command] = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        result_files.write(path, found)
        first = False
    if lacking:
        command, error = next(iter(lacking.items()))
        raise ConfigError(f"{len(lacking)} points cannot start: {error}", command, "install that and run again")
    return True


def summary(result: dict) -> str:
    keys = ("images_per_second", "ratio_to_torch", "extrapolated_s", "busy")
    told = [f"{key} {result[key]:.3g}" for key in keys if result.get(key)]
    return ", ".join(told + [result["note"]] if "note" in result else told)


def main(arguments: list[str] | None = None) -> int:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("cpu", "fit", "gpu"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop between points before so many")
    parser.add_argument("--source", default="synthetic:9750", help="of the paper's job; its train split is 80 %%")
    parser.add_argument("--out", type=pathlib.Path, help="the results, if not benchmarks/results/<device>.json")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown and measure nothing")
    parser.add_argument("--dry-run", action="store_true", help="one tiny point of each kind, here; needs --out")
    given = parser.parse_args(arguments)
    gpu = gpu_name() if given.name == "gpu" else None
    if given.dry_run and not given.out:
        parser.error("--dry-run needs --out")
    if given.name == "gpu" and not (gpu or given.out):
        parser.error("no GPU was found; --dry-run --out=FILE shows on CPU that the campaign runs")
    name = re.sub("[^a-z0-9]+", "-", (gpu or given.name).lower()).strip("-")
    out = given.out or result_files.RESULTS / f"{name}.json"
    points = {"cpu": cpu_points, "fit": fit_points, "gpu": functools.partial(gpu_points, given.source)}[given.name]()
    if given.table:
        print(tables.all_of(json.loads(out.read_text())))
        return 0
    if given.dry_run:
        points = tiny(points)
    elif given.name != "fit" and importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install torch==2.13.0")
    device = "gpu" if given.name == "gpu" and not given.dry_run else None
    try:
        if device:
            check_gpu()
        left = given.seconds - (time.monotonic() - begun)
        done = campaign(points, out, left, run_here if given.dry_run else run_apart, given.retry, device)
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
