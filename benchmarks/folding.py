"""Measure what folding BatchNorm into the kernels could gain in evaluation.

python -m benchmarks.folding [--rounds=10]

Two versions of a net alternate: the original, and one with each BatchNorm replaced by the addition of its bias, which
is all that remains after its scale has been folded into the kernel before it. The predictions of the second are wrong
but its time is right, because the values of kernels do not affect the time of a pass. Batch 64, float32, random weights
and images. Writes benchmarks/results/folding.json.
"""

import argparse
import statistics
import time

import flax.linen as nn
import jax
import numpy as np

from agegender_jax import data, models
from agegender_jax.cli.exits import guard
from agegender_jax.run.host import ynnpack
from agegender_jax.run.workdir import provenance
from benchmarks import result_files
from benchmarks.machine import machine

BATCH = 64
POINTS = [(name, size) for size in (64, 128) for name in ("resnet18", "resnet50", "ran56")]


def bias_alone(call, arguments, keywords, context):
    module = context.module
    if isinstance(module, nn.BatchNorm) and context.method_name == "__call__":
        return arguments[0] + module.variables["params"]["bias"].astype(arguments[0].dtype)
    return call(*arguments, **keywords)


def measure(name: str, size: int, rounds: int) -> dict:
    """Return the fastest and median seconds of both, and the ratio of the fastest, above 1 if folding is faster."""
    net = models.build(name, num_age_classes=12)
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8))
    variables = jax.jit(net.init, static_argnames="train")(jax.random.key(0), data.normalize(images[:1]), train=False)

    def plain(variables, images):
        return net.apply(variables, data.normalize(images), train=False).age_logits

    def folded(variables, images):
        with nn.intercept_methods(bias_alone):
            return plain(variables, images)

    seconds = {"plain": [], "folded": []}
    compiled = {function.__name__: jax.jit(function).lower(variables, images).compile() for function in (plain, folded)}
    for turn in range(rounds + 1):
        for key, function in compiled.items():
            started = time.perf_counter()
            jax.block_until_ready(function(variables, images))
            if turn:  # the first warms up
                seconds[key].append(time.perf_counter() - started)
    quickest = {key: min(values) for key, values in seconds.items()}
    return {
        "net": name,
        "image_size": size,
        "batch_size": BATCH,
        "quickest_s": quickest,
        "median_s": {key: statistics.median(values) for key, values in seconds.items()},
        "ratio": quickest["plain"] / quickest["folded"],
    }


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    rows = []
    for point in POINTS:
        rows.append(measure(*point, args.rounds))
        print(rows[-1], flush=True)
    command = ["python", "-m", "benchmarks.folding", f"--rounds={args.rounds}"]
    record = {"machine": machine(), **provenance.made_by(command), "rows": rows}
    result_files.write(result_files.RESULTS / "folding.json", record)


if __name__ == "__main__":
    guard(main)
