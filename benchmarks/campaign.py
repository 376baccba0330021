"""Runs a table of measurements, each in a process of its own, and keeps every line as soon as it is there.

python -m benchmarks.campaign cpu                  # benchmarks/results/cpu.json
python -m benchmarks.campaign gpu --seconds=540    # benchmarks/results/<device>.json; benchmarks/gpu.sh does this

Points that the file holds are passed over, so the same command goes on where it was stopped. `--table` prints the
file as Markdown.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import math
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

from agegender_jax import files, models
from benchmarks import job, kernels, limits
from configs import ran

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
AGAIN = 75  # exit code: not done yet, run again
TINY = {
    "model.name": "levi_hassner",
    "model.width": 0.125,
    "data.image_size": 32,
    "batch_size": 8,
    "eval.batch_size": 8,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement: `python -m <program> --config=configs/ran.py --config.FIELD=VALUE --FLAG=VALUE`.

    Attributes:
      fields: of the config.
      flags: of the program.
      seconds: about how long it takes.
    """

    program: str
    fields: dict = dataclasses.field(default_factory=dict)
    flags: dict = dataclasses.field(default_factory=dict)
    seconds: float = 120.0

    @property
    def arguments(self) -> list[str]:
        config = ["--config=configs/ran.py"] if self.fields else []
        fields = [f"--config.{name}={value}" for name, value in self.fields.items()]
        return [*config, *fields, *(f"--{name}={value}" for name, value in self.flags.items())]

    @property
    def command(self) -> str:
        """Its name in the results, too."""
        return shlex.join(["python", "-m", self.program, *self.arguments])


def bench(what: str, model: str, size: int, batch: int, dtype: str = "float32", steps: int = 20, **flags) -> Point:
    fields = {"model.name": model, "data.image_size": size, "model.dtype": dtype}
    fields["eval.batch_size" if what == "evaluate" else "batch_size"] = batch
    return Point("launch.benchmark", fields, {"what": what, "steps": steps, "against": "torch", **flags})


def cpu_points() -> Iterator[Point]:
    """Issue-sized table for CPUs: training and evaluation against PyTorch, after the machine's limits."""
    nets = ("resnet18", "resnet50", "ran56")
    yield Point("benchmarks.limits")
    for size, batch, steps in ((64, 16, 30), (96, 16, 20), (128, 16, 20), (64, 64, 10), (96, 64, 10), (200, 16, 10)):
        yield from (bench("train", net, size, batch, steps=steps) for net in nets)
    for size in (64, 96, 128):
        yield from (bench("evaluate", net, size, 64) for net in nets)


def gpu_points(source: str) -> Iterator[Point]:
    """The questions in the order of their weight, for a machine that is lent for minutes."""
    nets = ("ran56", "resnet50")
    for dtype in ("bfloat16", "float32"):
        for batch in (256, 16):
            yield from (bench("train", net, 224, batch, dtype, steps=50) for net in nets)
    for dtype in ("bfloat16", "float32"):
        yield from (bench("evaluate", net, 224, 256, dtype, steps=50) for net in nets)
    yield Point("benchmarks.limits")
    for batch in (256, 16):
        for net in nets:
            fields = bench("train", net, 224, batch, "bfloat16").fields
            yield Point("benchmarks.kernels", fields, {"steps": 10})
    faces = {"model.name": "ran56", "data.image_size": 200, "data.source": source}
    yield Point("launch.benchmark", faces | {"batch_size": 256}, {"what": "input", "steps": 100})  # prepares them too
    for dtype in ("bfloat16", "float32"):
        for batch in (16, 256):
            yield Point("benchmarks.job", faces | {"batch_size": batch, "model.dtype": dtype}, seconds=240)
            fed = faces | {"batch_size": batch, "model.dtype": dtype}
            yield Point("launch.benchmark", fed, {"what": "fit", "steps": 90})
    for net in models.list():
        if net not in nets:
            yield bench("train", net, 32 if net.endswith("_cifar") else 224, 256, "bfloat16", steps=50)


def tiny(points: Iterator[Point]) -> Iterator[Point]:
    """One small point of each kind, without PyTorch and without data: that all of it runs."""
    seen = set()
    for point in points:
        kind = (point.program, point.flags.get("what"))
        if kind not in seen and point.flags.get("what") != "fit":
            seen.add(kind)
            faces = {"data.source": "synthetic:100"} if "data.source" in point.fields else {}
            flags = {name: value for name, value in point.flags.items() if name != "against"}
            flags |= {"steps": 2} if "steps" in flags else {}
            yield Point(point.program, point.fields and point.fields | TINY | faces, flags)


def run_apart(point: Point, timeout: float | None) -> dict:
    """The JSON object that the command prints last. RuntimeError tells the end of its stderr."""
    command = [sys.executable, "-m", point.program, *point.arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_here(point: Point, timeout: float | None) -> dict:
    """The same in this process, for a dry run: it saves the imports."""
    from agegender_jax.run import benchmark

    config = ran.get_config()
    config.update_from_flattened_dict(point.fields)
    if point.program == "benchmarks.limits":
        return limits.measure(small=True)
    if point.program == "benchmarks.job":
        return job.measure(point.arguments)
    if point.program == "benchmarks.kernels":
        return kernels.measure(config, point.flags["steps"])
    return benchmark.measure(point.flags["what"], config, point.flags["steps"])


def campaign(points: Iterator[Point], path: pathlib.Path, seconds: float, run=run_apart, retry: bool = False) -> bool:
    """Measures what `path` does not hold yet and adds it there; whether all is done.

    A point that fails is kept with its `error` and is tried again with `retry` alone. Before `seconds` are over it
    stops between two points; a point that outlasts what is left is tried again first the next time.
    """
    found = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "points": {}}
    begun, first = time.monotonic(), True
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
        except RuntimeError as error:
            kept["error"] = str(error)
        print(f"  {kept.get('error') or summary(kept['result'])}", flush=True)
        found["points"][point.command] = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps(found, indent=1) + "\n")
        first = False
    return True


def summary(result: dict) -> str:
    keys = ("images_per_second", "ratio_to_torch", "extrapolated_s", "busy")
    return ", ".join(f"{key} {result[key]:.3g}" for key in keys if result.get(key))


def machine() -> dict:
    """Processor, its widest vectors, cores, and the GPU if there is one."""
    told = pathlib.Path("/proc/cpuinfo").read_text()
    cpu, flags = re.search(r"model name\s*: (.*)", told), told.split()
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "vectors": next((name for name in ("avx512f", "avx2", "avx") if name in flags), None),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu_name(),
        "python": platform.python_version(),
    }


def gpu_name() -> str | None:
    """The first GPU, as its driver calls it."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.splitlines()[0].strip() if told.returncode == 0 and told.stdout else None


def table(found: dict) -> str:
    """Markdown of all lines that launch.benchmark gave."""
    head = "what, net, pixels, batch, dtype, images/s, PyTorch, ratio, blocks, GFLOP/s, compile s, MiB, MiB PyTorch"
    rows = [head.split(", "), ["---", "---", *["--:"] * 2, "---", *["--:"] * 8]]
    for kept in found["points"].values():
        line = kept.get("result", {})
        if "step_ms" not in line or "ratio_to_torch" not in line:
            continue
        torch, blocks = line.get("torch", {}), line.get("block_ratios")
        numbers = (
            (line["images_per_second"], 1),
            (torch.get("images_per_second"), 1),
            (line["ratio_to_torch"], 2),
            (f"{blocks['min']:.2f}-{blocks['max']:.2f}" if blocks else None, None),
            (line["gflops_per_second"], 0),
            (line["compile_s"], 1),
            (line["peak_memory_mb"], 0),
            (torch.get("peak_memory_mb"), 0),
        )
        cells = ["" if n is None else n if digits is None else f"{n:.{digits}f}" for n, digits in numbers]
        rows.append(
            [line["what"], line["model"], *(str(line[k]) for k in ("image_size", "batch_size", "dtype")), *cells]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("cpu", "gpu"))
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
    out = given.out or RESULTS / f"{re.sub('[^a-z0-9]+', '-', (gpu or 'cpu').lower()).strip('-')}.json"
    points = cpu_points() if given.name == "cpu" else gpu_points(given.source)
    if given.table:
        print(table(json.loads(out.read_text())))
        return 0
    if given.dry_run:
        points = tiny(points)
    elif importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install torch==2.13.0")
    if not campaign(points, out, given.seconds, run_here if given.dry_run else run_apart, given.retry):
        print("not done yet: run again")
        return AGAIN
    print(f"done: {out}\n\n{table(json.loads(out.read_text()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
