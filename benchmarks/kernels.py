"""Where the time of a training step goes: the largest kernels, and what the whole step reaches. Prints one JSON object.

python -m benchmarks.kernels --config=configs/ran.py [--steps=10] [--config.FIELD=VALUE]

Durations are those of a trace of JAX's profiler: on a GPU of the kernels on its streams, on CPU of XLA's operations,
whose numbers are cut off. `share` is of all their durations, `busy` these over the time that the steps took (several
at once can exceed 1). flops and bytes are XLA's count for the compiled step, so a fusion's inner traffic is left out;
compare the rates with benchmarks/limits.py.
"""

import collections
import gzip
import json
import pathlib
import re
import tempfile
import time

import jax
from absl import flags
from ml_collections import ConfigDict

from agegender_jax.run import provenance, steps
from agegender_jax.run.timing import WARMUP, cost
from launch import app

CONFIG = app.define_config()
STEPS = flags.DEFINE_integer("steps", 10, "Steps to trace.", lower_bound=1)
LARGEST = 20


def measure(config: ConfigDict, count: int) -> dict:
    step, lower = steps.train(config)
    for _ in range(WARMUP):
        step()
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        with jax.profiler.trace(folder):
            begun = time.perf_counter()
            for _ in range(count):
                step()
            seconds = (time.perf_counter() - begun) / count
        (path,) = pathlib.Path(folder).rglob("*.trace.json.gz")
        found = durations(json.loads(gzip.decompress(path.read_bytes()))["traceEvents"])
    total, counted = sum(sum(times) for times in found.values()), cost(lower().compile())
    flops, size = counted.get("flops", 0), counted.get("bytes accessed", 0)
    largest = sorted(found.items(), key=lambda item: -sum(item[1]))[:LARGEST]
    return {
        "what": "kernels",
        "model": config.model.name,
        "image_size": config.data.image_size,
        "batch_size": config.batch_size,
        "dtype": config.model.dtype,
        "device_kind": jax.devices()[0].device_kind,
        "step_ms": 1e3 * seconds,
        "busy": total / 1e6 / count / seconds,
        "gflops": flops / 1e9,
        "gigabytes": size / 1e9,
        "gflops_per_second": flops / 1e9 / seconds,
        "gb_per_second": size / 1e9 / seconds,
        "kernels": [
            {"name": name, "share": sum(times) / total, "calls": len(times) / count, "ms": sum(times) / 1e3 / count}
            for name, times in largest
        ],
        "versions": provenance.versions(),
    }


def durations(events: list[dict]) -> dict[str, list[float]]:
    """Microseconds of every call by kernel."""
    names = {
        (event["pid"], event.get("tid"), event["name"]): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    on_gpu = any("GPU" in name for (_, _, kind), name in names.items() if kind == "process_name")
    found = collections.defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        thread = names.get((event["pid"], event.get("tid"), "thread_name"), "")
        if thread.startswith("Stream") if on_gpu else "hlo_op" in event.get("args", {}):
            name = event["name"] if on_gpu else re.sub(r"(\.\d+)+(\.clone)?$", "", event["name"])
            found[name].append(event["dur"])
    return found


def main() -> None:
    print(json.dumps(measure(app.config_of(CONFIG), STEPS.value)))


if __name__ == "__main__":
    app.run(main, __doc__)
