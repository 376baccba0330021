"""The teacher of `loss.teacher`: trained nets whose predictions a net learns from, besides the labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from agegender_jax import ensemble, files, weights
from agegender_jax.errors import ConfigError
from agegender_jax.prediction import members
from agegender_jax.structs import Probs

FIELD = "--config.loss.teacher"


def names(config: ConfigDict) -> list[str]:
    """Return the runs and shipped weights in `loss.teacher`; [] for none.

    Raises:
      ConfigError: one of several names is empty.
    """
    if not config.loss.teacher:
        return []
    parts = files.split_names(config.loss.teacher)
    if not all(parts):
        raise ConfigError("an empty name of a teacher", f"{FIELD}={config.loss.teacher}", "remove the comma")
    return parts


def load(config: ConfigDict) -> Callable[[jax.Array], Probs] | None:
    """Return the function from normalised images [B, S, S, 3] to the mean probabilities of the teachers; None for none.

    Each net sees the images once, resized to its own image size, and its probabilities are calibrated.

    Raises:
      ConfigError: there are no such weights, or a net is a control.
      CheckpointError: a run has no usable checkpoint, or a file is damaged.
    """
    nets = [member for name in names(config) for member in _members(name)]
    return (lambda images: _probs(nets, images)) if nets else None


def _members(name: str) -> Sequence[members.Member]:
    if name in weights.names() and not Path(name).exists():
        return members.from_weights(name)[0]
    return members.from_runs([name])[0]


def _probs(nets: Sequence[members.Member], images: jax.Array) -> Probs:
    parts = []
    for net in nets:
        size = (len(images), net.image_size, net.image_size, 3)
        seen = images if images.shape == size else jax.image.resize(images, size, "linear")
        outputs = net.model.apply(net.variables, seen, train=False)
        probs = Probs(jax.nn.softmax(outputs.age_logits), jax.nn.softmax(outputs.gender_logits))
        parts.append(ensemble.calibrate(probs, *net.temperatures))
    return jax.lax.stop_gradient(ensemble.mean_probs(parts))
