"""Measure the largest kernels of a training step, and the rates of the whole step. Prints one JSON object.

python -m benchmarks.kernels --config=configs/ran.py [--steps=10] [--config.FIELD=VALUE]

Durations come from a trace of JAX's profiler: on a GPU, of the kernels on its streams; on CPU, of XLA's operations,
with the numbers in their names removed. `share` is relative to the sum of all durations, and `busy` is that sum divided
by the time of the steps (above 1 if several run at once). gflops is as in launch.benchmark; gigabytes is the minimum
that convolutions, pools and resizes must read and write, every array once in each pass, because XLA's own counts leave
out calls to cuDNN and cuBLAS. The campaign's table has the shares of the machine's limits (benchmarks/limits.py).
"""

import collections
import gzip
import json
import pathlib
import re
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict

from agegender_jax import models
from agegender_jax.cli import app
from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir import provenance
from benchmarks import layers, steps
from benchmarks.timing import WARMUP

CONFIG = app.define_config()
STEPS = flags.DEFINE_integer("steps", 10, "Steps to trace.", lower_bound=1)
LARGEST = 20


def measure(config: ConfigDict, count: int) -> dict:
    step = steps.train(config)
    for _ in range(WARMUP):
        step()
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        with jax.profiler.trace(folder):
            started = time.perf_counter()
            for _ in range(count):
                step()
            seconds = (time.perf_counter() - started) / count
        measured = durations(recorded(pathlib.Path(folder)))
    total = sum(sum(times) for times in measured.values())
    gflops, size = steps.gflops("train", config), gigabytes(config)
    largest = sorted(measured.items(), key=lambda item: -sum(item[1]))[:LARGEST]
    return {
        "what": "kernels",
        "model": config.model.name,
        "image_size": config.data.image_size,
        "batch_size": config.batch_size,
        "dtype": config.model.dtype,
        "device": jax.default_backend(),
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
        "step_ms": 1e3 * seconds,
        "busy": total / 1e6 / count / seconds,
        "gflops": gflops,
        "gigabytes": size,
        "gflops_per_second": gflops / seconds,
        "gb_per_second": size / seconds,
        "kernels": [
            {"name": name, "share": sum(times) / total, "calls": len(times) / count, "ms": sum(times) / 1e3 / count}
            for name, times in largest
        ],
        "versions": provenance.versions(),
    }


def gigabytes(config: ConfigDict) -> float:
    """Return the gigabytes of all operands and results of a training step's convolutions, pools and resizes."""
    net = models.from_config(config.model)
    measured = layers.calls(net, config.data.image_size, config.batch_size)
    of_float32 = sum(count * layer.work()[1] for layer, count in measured.items())
    return steps.PASSES["train"] * of_float32 * jnp.dtype(config.model.dtype).itemsize / 4


def recorded(folder: pathlib.Path) -> list[dict]:
    """Return the events of the newest trace below `folder`.

    Raises:
      ConfigError: there is none.
    """
    paths = sorted(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise ConfigError("JAX's profiler left no trace", str(folder), "measure without benchmarks.kernels")
    return json.loads(gzip.decompress(paths[-1].read_bytes()))["traceEvents"]


def durations(events: list[dict]) -> dict[str, list[float]]:
    """Return the microseconds of every call by kernel.

    Raises:
      ConfigError: no thread of the trace has any.
    """
    names = {
        (event["pid"], event.get("tid"), event["name"]): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    on_gpu = any("GPU" in name for (_, _, kind), name in names.items() if kind == "process_name")
    measured = collections.defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        thread = names.get((event["pid"], event.get("tid"), "thread_name"), "")
        if thread.startswith("Stream") if on_gpu else "hlo_op" in event.get("args", {}):
            name = event["name"] if on_gpu else re.sub(r"(\.\d+)+(\.clone)?$", "", event["name"])
            measured[name].append(event["dur"])
    if not measured:
        threads = sorted({name for (_, _, kind), name in names.items() if kind == "thread_name"})
        raise ConfigError(
            "the profiler's trace holds no kernels",
            f"threads: {', '.join(threads) or 'none'}",
            "name the thread of the kernels in durations of benchmarks/kernels.py",
        )
    return measured


def main() -> None:
    print(json.dumps(measure(app.config_of(CONFIG), STEPS.value)))


if __name__ == "__main__":
    app.run(sys.modules[__name__])
