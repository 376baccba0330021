"""The measuring machine: processor, GPU and Python; and the time that a campaign allows for a point."""

import concurrent.futures
import math
import os
import pathlib
import platform
import re
import subprocess
import sys

from agegender_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[1]
AGAIN = 75  # exit code: not done yet, run again
POINT_SECONDS = "POINT_SECONDS"  # variable of the environment: when the campaign ends a point
STARTING = 30.0  # seconds in which JAX and PyTorch must start
FREE = "see what else uses the GPU (nvidia-smi), and what JAX finds: python -c 'import jax; print(jax.devices())'"
STARTS = {  # program, expected last word, installation
    "JAX": (
        "import jax; from agegender_jax import extras; extras.check('train'); "
        "from agegender_jax.data import tfds_builder; from benchmarks import throughput; print(jax.default_backend())",
        "gpu",
        "pip install '.[cuda13]'",
    ),
    "PyTorch": ("import torch; print(torch.cuda.is_available())", "True", "install a CUDA build of PyTorch"),
}


def machine() -> dict:
    """Return the processor, its widest vector extension, the number of cores, and the GPU or None."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    cpu, flags = re.search(r"model name\s*: (.*)", text), text.split()
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "vectors": next((name for name in ("avx512f", "avx2", "avx") if name in flags), None),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu_name(),
        "python": platform.python_version(),
    }


def gpu_name() -> str | None:
    """Return the name of the first GPU, None without one."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def described(config: dict, run: dict) -> dict:
    """Return what a result says of the job that was measured, from its config.json and run.json."""
    return {
        "model": config["model"]["name"],
        "image_size": config["data"]["image_size"],
        "batch_size": config["batch_size"],
        "dtype": config["model"]["dtype"],
        "device": run["devices"]["platform"],
        "device_kind": run["devices"]["kind"],
    }


def without_folders(text: str) -> str:
    """Return a text with the names of files instead of their absolute paths, for results that are published."""
    return re.sub(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+", "", text)


def seconds_left() -> float:
    """Return the seconds that the campaign leaves to this point from its start, infinite outside of a campaign."""
    return float(os.environ.get(POINT_SECONDS, math.inf))


def check_gpu() -> str | None:
    """Start the benchmark with JAX, and PyTorch, in processes of their own; return why PyTorch cannot be used, or None.

    Raises:
      ConfigError: the benchmark does not import, or JAX finds no GPU.
    """
    with concurrent.futures.ThreadPoolExecutor(len(STARTS)) as pool:
        ours, theirs = (pool.submit(_check_start, name) for name in STARTS)
        ours.result()
        error = theirs.exception()
    if error and not isinstance(error, ConfigError):
        raise error
    return error.what if error else None


def _check_start(name: str) -> None:
    code, expected, fix = STARTS[name]
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=STARTING)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{name} has not started after {STARTING:.0f} s", sys.executable, FREE) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigError(f"{name} does not start: {last}", sys.executable, fix)
    if done.stdout.split()[-1:] != [expected]:
        raise ConfigError(f"{name} finds no GPU", sys.executable, f"{fix}; {FREE}")
