"""What the machine can do: rate of matrix products, memory bandwidth, decoding. Prints one JSON object.

python -m benchmarks.limits

The best of several tries of each, one framework after the other: GFLOP/s of matrix products, GB/s of an array's
negation in place ("copy": read once, written once) and of a = a + 3 b ("triad": two read, one written). Decoding is of
JPEGs of 200x200 pixels in memory. Operands are random, for a GPU that works on constants draws less power and clocks
higher.
"""

import argparse
import concurrent.futures
import functools
import importlib.util
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from PIL import Image

from agegender_jax import synthetic
from agegender_jax.data.decoding import decode
from agegender_jax.run.workdir import provenance

TRIES = 10
SIDE = {"cpu": 2048, "gpu": 8192}  # of the matrices
FLOATS = {"cpu": 2**26, "gpu": 2**28}  # in an array
DTYPES = {"cpu": ("float32",), "gpu": ("float32", "bfloat16")}


def measure(small: bool = False) -> dict:
    """Everything; `small` sizes only show that it works."""
    backend = jax.default_backend()
    side, floats = (64, 2**12) if small else (SIDE[backend], FLOATS[backend])
    found = {"jax": with_jax(side, floats)}
    if importlib.util.find_spec("torch"):
        found["torch"] = with_torch(side, floats)
    return {
        "what": "limits",
        "device": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)),
        **found,
        "decoded_images_per_second": decoding(8 if small else 256),
        "device_kind": jax.devices()[0].device_kind,
        "versions": provenance.versions(),
    }


def with_jax(side: int, floats: int) -> dict[str, float]:
    """GFLOP/s of matrix products by dtype, GB/s of copy and triad; results are written over an operand."""
    rates, product = {}, jax.jit(jnp.matmul)
    for dtype in DTYPES[jax.default_backend()]:
        x = jax.random.normal(jax.random.key(0), (side, side), dtype)
        rates[f"matmul_{dtype}"] = 2 * side**3 / 1e9 / best(functools.partial(_done, product, x, x))
    negate = jax.jit(jnp.negative, donate_argnums=0)
    triad = jax.jit(lambda a, b: a + 3.0 * b, donate_argnums=0)
    a, b = jax.random.normal(jax.random.key(0), (2, floats))

    def negated() -> None:
        nonlocal a
        a = _done(negate, a)

    def added() -> None:
        nonlocal a
        a = _done(triad, a, b)

    return rates | {"copy": 8 * floats / 1e9 / best(negated), "triad": 12 * floats / 1e9 / best(added)}


def _done(action: Callable, *arguments):
    return jax.block_until_ready(action(*arguments))


def with_torch(side: int, floats: int) -> dict[str, float]:
    """The same with PyTorch, TF32 allowed on a GPU."""
    import torch

    backend = "gpu" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda" if backend == "gpu" else "cpu")
    torch.set_float32_matmul_precision("high")
    rates = {"version": torch.__version__}

    def timed(action: Callable, *arguments, **named) -> float:
        wait = torch.cuda.synchronize if backend == "gpu" else lambda: None
        return best(lambda: (action(*arguments, **named), wait()))

    for dtype in DTYPES[backend]:
        x = torch.randn(side, side, dtype=getattr(torch, dtype), device=device)
        rates[f"matmul_{dtype}"] = 2 * side**3 / 1e9 / timed(torch.matmul, x, x)
    a, b = torch.randn(2, floats, device=device)
    copy, triad = timed(torch.neg, a, out=a), timed(torch.add, a, b, alpha=3.0, out=a)
    return rates | {"copy": 8 * floats / 1e9 / copy, "triad": 12 * floats / 1e9 / triad}


def best(action: Callable[[], object]) -> float:
    """Seconds of the quickest of TRIES, after one more."""
    action()
    seconds = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def decoding(count: int) -> dict[str, float]:
    """Images a second in one thread, and in one thread a core."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write_faces(folder, 8, seed=0, size=200)
        drawn = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    jpegs = [drawn[i % len(drawn)] for i in range(count)]
    assert Image.open(io.BytesIO(jpegs[0])).size == (200, 200)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return {
            "one_thread": count / best(lambda: [decode(jpeg) for jpeg in jpegs]),
            "a_thread_a_core": count / best(lambda: list(pool.map(decode, jpegs))),
        }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU too
    print(json.dumps(measure()))
