"""A user's program that mypy checks and nothing runs: an unused `type: ignore` is an error, as is another type."""

from typing import Any, assert_type

import flax.linen as nn
import jax
import numpy as np

import agegender_jax
from agegender_jax import data, ensemble, metrics, models, structs

model, variables, config = agegender_jax.load("runs/ran")
assert_type(model, models.AgeGenderNet)
assert_type(config, dict[str, Any])
assert_type(agegender_jax.__version__, str)
assert_type(models.backbone("ran56"), nn.Module)

pixels = np.zeros((2, 64, 64, 3), np.uint8)
assert_type(data.normalize(jax.numpy.asarray(pixels)), jax.Array)
probs = ensemble.predict(model, variables, jax.numpy.asarray(pixels))
assert_type(ensemble.mean_probs([probs]), structs.Probs)
age, gender = np.zeros((2, 2), int), np.zeros(2, int)
assert_type(metrics.scores(np.asarray(probs.age), np.asarray(probs.gender), age, gender), dict[str, float | None])

models.build("ran56", num_age_classes="12")  # type: ignore[arg-type]
agegender_jax.load(3.5)  # type: ignore[arg-type]
metrics.scores("ran56", probs.gender)  # type: ignore
