"""Time every distinct convolution, pooling and resize of a net separately, as in the net and in plain lax.

python -m benchmarks.layers                  # benchmarks/results/layers.json, with tables of it
python -m benchmarks.layers --against=torch  # also every convolution in PyTorch, in eager mode
python -m benchmarks.layers --table          # the tables of what is there

Each is timed as one program for the value and both gradients, and for the value alone; the result is the minimum over
many alternating tries. The bound is the larger of the time of the arithmetic at the rate of large matrix products and
the time to read and write every operand once at the memory bandwidth, both measured in the same run. The resize of lax
is `jax.image.scale_and_translate`.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Iterator
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from agegender_jax import models
from agegender_jax.cli.exits import guard
from agegender_jax.models import convolution, pooling, resizing
from agegender_jax.run.host import ynnpack
from agegender_jax.run.workdir import provenance
from benchmarks import limits, result_files
from benchmarks.machine import machine

NETS = ("resnet18", "resnet50", "ran56")
SIZE, BATCH = 128, 16
TRIES, SECONDS = 15, 1.0  # at least so many, for at least so long
DIGITS = (2, 2, 2, 0, 2, 2, 2, 2, 2)
KINDS = ("7x7", "3x3", "1x1", "pool", "resize")
FILE = result_files.RESULTS / "layers.json"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One call: what kind, its operands' shapes, and its static arguments."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    options: tuple

    def ours(self, *operands):
        if self.kind == "convolution":
            return convolution.conv_general(*operands, *self.options, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return {"pool": pooling.max_pool, "resize": resizing.resize_align_corners}[self.kind](*operands, *self.options)

    def lax(self, *operands):
        if self.kind == "convolution":
            return lax.conv_general_dilated(*operands, *self.options, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if self.kind == "pool":
            pad, window, stride = self.options
            return nn.max_pool(*operands, (window,) * 2, (stride,) * 2, pad)
        (x,), (shape,) = operands, self.options
        scale = jnp.array([max(out - 1, 1) / max(n - 1, 1) for n, out in zip(x.shape[1:3], shape, strict=True)])
        translation = 0.5 - 0.5 * scale
        out = (x.shape[0], *shape, x.shape[3])
        return jax.image.scale_and_translate(x, out, (1, 2), scale, translation, "linear", antialias=False)

    def work(self) -> tuple[float, float]:
        """Return GFLOP and GB of the value, every array once; value and gradients are three such products."""
        out = jax.eval_shape(self.ours, *(jax.ShapeDtypeStruct(shape, np.float32) for shape in self.shapes))
        flops = 2 * out.size * int(np.prod(self.shapes[1][:3])) if self.kind == "convolution" else 0
        return flops / 1e9, 4 * (out.size + sum(int(np.prod(shape)) for shape in self.shapes)) / 1e9


def calls(net: nn.Module, size: int, batch: int) -> collections.Counter:
    """Return how often a net makes each distinct call on images of `size` pixels, from its traced shapes."""
    counts = collections.Counter()
    convolve, pool, resize = convolution.conv_general, pooling.max_pool, resizing.resize_align_corners

    def convolved(x, kernel, strides, padding, **named):
        counts[Layer("convolution", (x.shape, kernel.shape), (tuple(strides), tuple(padding)))] += 1
        return convolve(x, kernel, strides, padding, **named)

    def pooled(x, pad, window=3, stride=2):
        counts[Layer("pool", (x.shape,), (pad, window, stride))] += 1
        return pool(x, pad, window, stride)

    def resized(x, shape):
        if x.shape[1:3] != tuple(shape):
            counts[Layer("resize", (x.shape,), (tuple(shape),))] += 1
        return resize(x, shape)

    images = jax.ShapeDtypeStruct((batch, size, size, 3), np.float32)
    with (
        mock.patch.object(convolution, "conv_general", convolved),
        mock.patch.object(pooling, "max_pool", pooled),
        mock.patch.object(resizing, "resize_align_corners", resized),
    ):
        jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)
    return counts


def measure(layer: Layer) -> dict[str, float]:
    """Return the least milliseconds of value and gradients, ours and lax's; those of the value alone after `value_`.

    Where both are the same program, it is timed once.
    """
    keys = jax.random.split(jax.random.key(0), len(layer.shapes) + 1)
    operands = [jax.random.normal(key, shape) for key, shape in zip(keys, layer.shapes, strict=False)]
    cotangent = jax.random.normal(keys[-1], jax.eval_shape(layer.ours, *operands).shape)

    def lowered(which, gradients):
        def program(cotangent, *operands):
            if not gradients:
                return which(*operands)
            value, pullback = jax.vjp(which, *operands)
            return value, pullback(cotangent)

        return jax.jit(program, keep_unused=True).lower(cotangent, *operands)

    times = {}
    for prefix, gradients in (("", True), ("value_", False)):
        pair = {name: lowered(getattr(layer, name), gradients) for name in ("ours", "lax")}
        if pair["ours"].as_text() == pair["lax"].as_text():
            del pair["lax"]
        programs = {name: each.compile() for name, each in pair.items()}
        least = dict.fromkeys(programs, np.inf)
        for _ in _tries():
            for name, program in programs.items():
                started = time.perf_counter()
                jax.block_until_ready(program(cotangent, *operands))
                least[name] = min(least[name], 1e3 * (time.perf_counter() - started))
        times |= {f"{prefix}{name}": least.get(name, least["ours"]) for name in ("ours", "lax")}
    return times


def measure_in_torch(layer: Layer) -> dict[str, float]:
    """Return `torch` and `value_torch`, the least milliseconds of a convolution in PyTorch; {} for other layers."""
    if layer.kind != "convolution":
        return {}
    import torch

    x, kernel = (torch.randn(shape) for shape in layer.shapes)
    x, kernel = x.permute(0, 3, 1, 2).contiguous(), kernel.permute(3, 2, 0, 1).contiguous()
    strides, padding = layer.options[0], [low for low, _ in layer.options[1]]
    cotangent = torch.randn(torch.nn.functional.conv2d(x, kernel, None, strides, padding).shape)

    def value():
        torch.nn.functional.conv2d(x, kernel, None, strides, padding)

    def gradients():
        value()
        options = (strides, padding, (1, 1), False, (0, 0), 1)
        torch.ops.aten.convolution_backward(cotangent, x, kernel, None, *options, (True, True, False))

    times = {}
    for name, program in (("torch", gradients), ("value_torch", value)):
        times[name] = np.inf
        for _ in _tries():
            started = time.perf_counter()
            program()
            times[name] = min(times[name], 1e3 * (time.perf_counter() - started))
    return times


def _tries() -> Iterator[int]:
    """Yield at least TRIES numbers over at least SECONDS: the least of few short tries is chance."""
    started = time.perf_counter()
    for done in itertools.count():
        if done >= TRIES and time.perf_counter() - started > SECONDS:
            return
        yield done


def table(measured: dict) -> str:
    """Return Markdown: a row for each layer, a line of totals for each net. PyTorch's columns are empty without it."""
    head = ["net", "calls", "layer", "ms, ours", "ms, lax", "lax / ours", "GFLOP/s", "bound ms", "bound / ours"]
    head += ["value: ms, ours", "value: lax / ours", "value: bound / ours", "PyTorch / ours", "value: PyTorch / ours"]
    rows = [head, ["---", "--:", "---", *["--:"] * 11]]
    for net, entries in measured["nets"].items():
        for e in [*entries, _sum(entries)]:
            rate = 3 * e["gflop"] / e["ours"] * 1e3
            numbers = (e["ours"], e["lax"], e["lax"] / e["ours"], rate, 3 * e["bound"], 3 * e["bound"] / e["ours"])
            numbers += (e["value_ours"], e["value_lax"] / e["value_ours"], e["bound"] / e["value_ours"])
            cells = (f"{n:.{d}f}" for n, d in zip(numbers, DIGITS, strict=True))
            rows.append([net, str(e["calls"]), e["layer"], *cells, _of_torch(e, "ours"), _of_torch(e, "value_ours")])
    return _markdown(rows)


def summary(measured: dict) -> str:
    """Return Markdown: milliseconds and share of the bound by kind of layer; below each net its values alone.

    Where PyTorch was measured, its time as a multiple of ours follows.
    """
    rows = [["", *KINDS, "all"], ["---"] * (len(KINDS) + 2)]
    for net, entries in measured["nets"].items():
        totals = [_sum([e for e in entries if e["layer"].startswith(kind)]) for kind in (*KINDS, "")]
        for name, key, times in ((net, "ours", 3), ("value alone", "value_ours", 1)):
            shares = (f"{e[key]:,.0f} ms, {times * e['bound'] / e[key]:.2f}" if e["calls"] else "" for e in totals)
            ratios = (_of_torch(e, key) for e in totals)
            rows.append([name, *(f"{a}, {b}" if b else a for a, b in zip(shares, ratios, strict=True))])
    return _markdown(rows)


def _sum(entries: list[dict]) -> dict:
    """Return all calls of some layers as one entry."""
    keys = ["gflop", "bound", "ours", "lax", "value_ours", "value_lax"]
    keys += ["torch", "value_torch"] if entries and all("torch" in e for e in entries) else []
    totals = {key: sum(e["calls"] * e[key] for e in entries) for key in keys}
    return {"layer": "all", "calls": sum(e["calls"] for e in entries)} | totals


def _of_torch(entry: dict, key: str) -> str:
    """Return PyTorch's time as a multiple of ours, or "" where it was not measured."""
    name = key.replace("ours", "torch")
    return f"{entry[name] / entry[key]:.2f}" if name in entry else ""


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def describe(layer: Layer) -> str:
    _, height, width, channels = layer.shapes[0]
    if layer.kind == "convolution":
        (kernel, _, _, out), stride = layer.shapes[1], layer.options[0][0]
        return f"{kernel}x{kernel}/{stride}, {height}x{width}, {channels} to {out}"
    more = f" to {layer.options[0][0]}x{layer.options[0][1]}" if layer.kind == "resize" else ""
    return f"{layer.kind}, {height}x{width}{more}, {channels}"


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the results and measure nothing")
    parser.add_argument("--against", choices=("torch",), help="also time the convolutions in PyTorch")
    args = parser.parse_args()
    if args.table:
        measured = json.loads(FILE.read_text())
        print(table(measured), summary(measured), sep="\n\n")
        return
    rates = limits.measure()["jax"]
    command = "python -m benchmarks.layers" + (" --against=torch" if args.against else "")
    measured = {"command": command, "image_size": SIZE, "batch_size": BATCH, "limits": rates}
    measured |= {"machine": machine(), "versions": provenance.versions(), "nets": {}}
    times = functools.cache(lambda layer: measure(layer) | (measure_in_torch(layer) if args.against else {}))  # once
    for net in NETS:
        entries = measured["nets"][net] = []
        for layer, count in calls(models.backbone(net), SIZE, BATCH).items():
            gflop, gbyte = layer.work()
            bound = 1e3 * max(gflop / rates["matmul_float32"], gbyte / rates["triad"])
            entries.append({"layer": describe(layer), "calls": count, "gflop": gflop, "bound": bound} | times(layer))
            print(net, json.dumps(entries[-1]), flush=True)
    result_files.write(FILE, measured)
    print(table(measured), summary(measured), sep="\n\n")


if __name__ == "__main__":
    guard(main)
