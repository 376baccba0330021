"""Measure data preparation, start-up time, and memory over 2,000 steps.

python -m benchmarks.input [--source=crop_part1.tar] [--only=prepare,start,memory]

Prepares 10,000 synthetic faces of 200 pixels. Starts the quickstart's nets on 6,000 faces of 96 pixels, and on --source
if it is set. The cost of feeding a step is measured by `launch.benchmark --what=fit`. Writes
benchmarks/results/input.json; parts not in --only are left as they are.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

import jax

from agegender_jax import synthetic
from agegender_jax.cli.exits import guard
from agegender_jax.data.prepare import prepare
from benchmarks import arguments, result_files
from benchmarks.machine import ROOT

REPEATS = 3
COMPILED = re.compile(
    r"Finished (tracing|jaxpr to MLIR module conversion|XLA compilation of) (\S+).* in ([\d.e-]+) sec"
)


def measure_prepare(work: pathlib.Path) -> dict:
    """Return seconds and CPU seconds to prepare 10,000 synthetic JPEGs of 200 pixels and to decode them."""
    faces = work / "faces-10000"
    if not faces.exists():
        synthetic.write_faces(work / "drawing", 10_000, seed=0, size=200)
        (work / "drawing").rename(faces)
    rows = []
    for _ in range(REPEATS):
        shutil.rmtree(work / "prepared", ignore_errors=True)
        before = time.perf_counter(), time.process_time()
        prepared = prepare(str(faces), str(work / "prepared"))
        middle = time.perf_counter(), time.process_time()
        prepared.images(200)
        after = time.perf_counter(), time.process_time()
        rows.append(
            {
                **{"prepare_s": middle[0] - before[0], "prepare_cpu_s": middle[1] - before[1]},
                **{"images_s": after[0] - middle[0], "images_cpu_s": after[1] - middle[1]},
            }
        )
    return {"images": len(prepared.file), **spread(rows)}


def measure_start(work: pathlib.Path, source: str, variant: str) -> dict:
    """Return seconds from the command to the first line of metrics.jsonl, with and without compilation; data are ready.

    "cold" starts without cached XLA programs, "warm" with them. Compilation is JAX's own count of tracing, lowering and
    XLA. The first run prepares the data and is discarded.
    """
    rows = {"preparing": [], "cold": [], "warm": []}
    options = (f"--config=configs/quickstart.py:{variant}", "--config.log.every_steps=1")
    for kind in ("preparing", "cold", *["warm"] * REPEATS):
        if kind == "cold":
            shutil.rmtree(work / "cache" / "agegender_jax" / "compiled", ignore_errors=True)
        with Training(work, *options, f"--config.data.source={source}", JAX_LOG_COMPILES="1") as run:
            run.wait_for(1)
            seconds, cpu = time.perf_counter() - run.started, run.cpu_seconds()
        rows[kind].append({"start_s": seconds, "besides_compilation_s": seconds - run.compiling(), "cpu_s": cpu})
    return {kind: spread(rows[kind]) for kind in ("cold", "warm")}


def measure_memory(work: pathlib.Path) -> dict:
    """Return the memory (RssAnon, MiB) of a small run after some steps; it evaluates and saves every 30 steps."""
    small = ("--config.model.width=0.125", "--config.data.image_size=32", "--config.data.source=synthetic:600")
    seen = {}
    with Training(
        work, "--config=configs/quickstart.py:resnet", *small, "--config.num_steps=2010", "--config.log.every_steps=10"
    ) as run:
        for step in (200, 500, 1000, 1500, 2000):
            run.wait_for(step)
            seen[step] = run.memory_mib()
    return {"rss_anon_mib": seen, "growth_200_to_2000": seen[2000] / seen[200]}


class Training:
    """launch.train in its own process with its cache in `work`; killed on exit."""

    def __init__(self, work: pathlib.Path, *options: str, **environment: str):
        self.workdir = work / "run"
        shutil.rmtree(self.workdir, ignore_errors=True)
        self.metrics, self.errors = self.workdir / "metrics.jsonl", work / "errors.txt"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
        command = (sys.executable, "-m", "launch.train", *options, f"--workdir={self.workdir}")
        environment = inherited | {"XDG_CACHE_HOME": str(work / "cache")} | environment
        self.started = time.perf_counter()
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for(self, step: int) -> None:
        """Wait until a line of `step` is logged."""
        while not self.metrics.exists() or f'"step": {step},' not in self.metrics.read_text():
            if self.process.poll() is not None:
                raise RuntimeError(self.errors.read_text())
            time.sleep(0.005)

    def compiling(self) -> float:
        """Return seconds of tracing, lowering and compilation; inner functions count once."""
        matches = COMPILED.findall(self.errors.read_text())
        outer = {name.removeprefix("jit(").removesuffix(")") for kind, name, _ in matches if kind != "tracing"}
        return sum(float(seconds) for kind, name, seconds in matches if kind != "tracing" or name in outer)

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return rounded(int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024)


def rounded(value: float) -> float:
    return round(float(value), 3)


def spread(rows: list[dict]) -> dict:
    """Return min, median and max of each column."""
    return {
        key: {f.__name__: rounded(f([row[key] for row in rows])) for f in (min, statistics.median, max)}
        for key in rows[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", help="real faces, to measure the start with them too")
    parser.add_argument("--only", default="prepare,start,memory", help="comma-separated parts")
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "input")
    args = parser.parse_args()
    work, only = args.workdir.resolve(), arguments.names(parser, "--only", args.only, ("prepare", "start", "memory"))
    work.mkdir(parents=True, exist_ok=True)
    path = result_files.RESULTS / "input.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    sources = {"synthetic:6000": "synthetic:6000"}
    if args.source:
        sources[pathlib.Path(args.source).name] = str(pathlib.Path(args.source).resolve())
    nets = ("ran", "resnet")
    parts = {
        "prepare": lambda: measure_prepare(work),
        "start": lambda: {
            net: {name: measure_start(work, source, net) for name, source in sources.items()} for net in nets
        },
        "memory": lambda: measure_memory(work),
    }
    made_by = {
        "command": f"python -m benchmarks.input --only={','.join(only)}"
        + (" --source=crop_part1.tar" if args.source else ""),
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
    }
    for name in only:
        part, today = parts[name](), datetime.date.today().isoformat()
        record[name] = part | {"measured": today, "load_average_15_min": rounded(os.getloadavg()[2])} | made_by
        print(name, json.dumps(record[name], indent=1), flush=True)
        result_files.write(path, record)


if __name__ == "__main__":
    guard(main)
