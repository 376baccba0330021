"""Convolutions on CPUs without YNNPACK. This module does not import jax, which reads the setting when it starts."""

import importlib.metadata
import os
import re

from agegender_jax.run.host import interpreter

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
WITHOUT = f"{FLAG}=-individual_convolution"


def avoid() -> None:
    """Have XLA compute convolutions on CPUs itself, by an environment variable that child processes inherit.

    From jaxlib 0.10 on, XLA gives them to the library YNNPACK, which is slower for most nets of this library. It is
    faster for predictions of the shipped nets, but these then differ in the sixth decimal between the engines of
    `predict`. benchmarks/README.md has both. Nothing is changed if XLA_FLAGS already has that flag, or if jax will
    compute on another device. jaxlib 0.8 does not know the flag, and would end the process.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags and interpreter.uses_cpu() and _has_ynnpack():
        os.environ["XLA_FLAGS"] = f"{flags} {WITHOUT}".strip()


def _has_ynnpack() -> bool:
    try:
        version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("jaxlib"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return version is not None and (0, 10) <= (int(version[1]), int(version[2])) < (0, 13)  # later ones are unknown
