"""Age and gender from face images with attentional convolutional networks, in JAX and Flax.

`Predictor()` predicts for the faces of photos, `load("runs/ran")` returns a trained net.
Subpackages: `models`, `data`, `ensemble`, `metrics`, `explain`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agegender_jax.loading import load as load
    from agegender_jax.prediction.predictor import Predictor as Predictor

__version__ = "0.2.0"
__all__ = ["Predictor", "__version__", "load"]


_PLACES = {"Predictor": "prediction.predictor", "load": "loading"}


def __getattr__(name: str) -> Any:
    """Import what needs jax on first use, so that `--help` works without jax."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        extras = importlib.import_module(f"{__name__}.extras")
        if error.name in extras.PHOTOS:
            extras.check("photos")
        raise
