"""Age and gender from face images with attentional convolutional networks, in JAX and Flax.

`load("runs/ran")` gives a trained net. Subpackages: `models`, `data`, `ensemble`, `metrics`, `explain`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agegender_jax.loading import load as load

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first used: it needs jax, and `--help` must not."""
    if name == "load":
        return importlib.import_module("agegender_jax.loading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
