"""How this Python process was started, and on which devices jax will compute, without importing jax."""

import contextlib
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")  # NVIDIA, AMD, TPU
MODULES = ("agegender_jax", "agegender_jax.cli", "agegender_jax.cli.__main__")
GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "libtpu")


def owns_process() -> bool:
    """Return whether the process was started as one of this package's programs and runs nothing else.

    It is False under a debugger, coverage, IPython, runpy or a test runner; such a process must not be replaced or
    ended.
    """
    traced = sys.gettrace() is not None or sys.getprofile() is not None
    return not traced and not sys.flags.interactive and _is_own_program(*_target(sys.orig_argv[1:]))


def uses_cpu() -> bool:
    """Return whether jax will compute on the CPU, as far as can be determined without importing it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0].strip() == "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return hidden or not (any(map(os.path.exists, GPU_DEVICES)) and any(map(is_installed, GPU_PLUGINS)))


def _target(arguments: list[str]) -> tuple[str, str]:
    """Return what the interpreter runs: ("m", module), ("c", code), ("", script) or ("", "")."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--check-hash-based-pycs":
            next(rest, None)
        elif argument == "-" or not argument.startswith("-"):
            return "", argument
        elif not argument.startswith("--"):
            for i, letter in enumerate(argument[1:], 2):  # letters may be joined, as in -Im
                if letter in "mcXW":
                    value = argument[i:] or next(rest, "")
                    if letter in "mc":
                        return letter, value
                    break
    return "", ""


def _is_own_program(kind: str, name: str) -> bool:
    if kind == "m":
        return name.startswith(("launch.", "benchmarks.")) or name in MODULES
    return kind == "" and Path(name).name in ("agegender", "agegender.exe")


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@contextlib.contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Hide modules that have not been imported yet from modules that are imported in this context."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


def settle_streams() -> None:
    """Escape text that a terminal cannot show, and reopen closed streams, so that no file gets their descriptors."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def settle_environment() -> None:
    """Remove settings for other programs that would end this one from the environment of a process that we own."""
    os.environ["MPLBACKEND"] = "agg"
    for name in ("MATPLOTLIBRC", "MPLSTYLE"):
        os.environ.pop(name, None)
    if "error" in os.environ.get("PYTHONWARNINGS", ""):  # a deprecation in a library is no reason to stop
        warnings.filters[:] = [  # type: ignore[index]
            entry for entry in warnings.filters if entry[0] != "error"
        ]
    warnings.filterwarnings("ignore", module="PIL")  # name no picture; damaged ones are reported with their names
    if not os.environ.get("COLUMNS", "0").isdecimal():
        del os.environ["COLUMNS"]
