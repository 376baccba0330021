"""Weights and cards of two tiny nets with random numbers, and of their ensemble, made without training."""

import functools

import jax
import numpy as np
from test_face_predictions import draw_predictions

from agegender_jax import weights
from agegender_jax.checkpoint.variable_shapes import variable_shapes
from agegender_jax.config import default
from agegender_jax.models import levi_hassner
from agegender_jax.prediction import calibration

SIZE = 32


def write(folder):
    """Write `one`, `two` and their ensemble `default` to a folder."""
    config = default().to_dict()
    config["model"] |= {"name": "levi_hassner", "width": 0.125}
    config = {"model": config["model"], "data": {"image_size": SIZE}, "eval": {"views": "none"}}
    probs, *labels = draw_predictions(400, 0)
    fitted = calibration.fit(probs, *labels, None)
    for name, seed in (("one", 0), ("two", 1)):
        rng = np.random.default_rng(seed)
        fill = functools.partial(_random, rng)
        variables = jax.tree_util.tree_map_with_path(fill, variable_shapes(config))
        fields = {"config": config, "temperatures": [1.5, 0.8], "chip_size": 112, "calibration": fitted}
        weights.write(folder, name, variables, fields)
    weights.write_ensemble(folder, "default", {"members": ["one", "two"], "chip_size": 112, "calibration": fitted})
    return folder


def _random(rng, path, leaf):
    scale = (6 / np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 0
    if "conv1" in jax.tree_util.keystr(path):
        scale /= max(levi_hassner.PIXEL_SCALE)
    return np.float32(np.float16(scale * rng.normal(size=leaf.shape)))
