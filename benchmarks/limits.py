"""Measure the machine's limits: matrix products, memory bandwidth, JPEG decoding. Prints one JSON object.

python -m benchmarks.limits

Best of several tries, one framework after the other: GFLOP/s of matrix products, GB/s of negating an array in place
("copy": one read, one write) and of a = a + 3 b ("triad": two reads, one write). Decoding is of 200 x 200 JPEGs in
memory. Operands are random, because a GPU computing with constants draws less power and clocks higher.
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
    """Measure everything; `small` sizes are for testing."""
    backend = jax.default_backend()
    side, floats = (64, 2**12) if small else (SIDE[backend], FLOATS[backend])
    measured = {"jax": with_jax(side, floats)}
    if importlib.util.find_spec("torch"):
        measured["torch"] = with_torch(side, floats)
    return {
        "what": "limits",
        "device": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)),
        **measured,
        "decoded_images_per_second": decoding(8 if small else 256),
        "device_kind": jax.devices()[0].device_kind,
        "versions": provenance.versions(),
    }


def with_jax(side: int, floats: int) -> dict[str, float]:
    """Return GFLOP/s of matrix products by dtype and GB/s of copy and triad; results overwrite an operand."""
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
    """Return the same for PyTorch, with TF32 allowed on a GPU."""
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
    """Return seconds of the fastest of TRIES calls after one warm-up call."""
    action()
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def decoding(count: int) -> dict[str, float]:
    """Return images per second in one thread, and in one thread per core."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write_faces(folder, 8, seed=0, size=200)
        faces = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    jpegs = [faces[i % len(faces)] for i in range(count)]
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
