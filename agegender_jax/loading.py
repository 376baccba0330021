"""Loading a trained net from the folder of its run, or shipped weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agegender_jax import files, models, weights
from agegender_jax.checkpoint import check_match, digest, load_variables
from agegender_jax.checkpoint.manifest import BadCheckpoint
from agegender_jax.checkpoint.variable_shapes import variable_shapes
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.models import AgeGenderNet


class Trained(NamedTuple):
    """A net with its weights.

    Attributes:
      model: the Flax module.
      variables: {"params", "batch_stats"}, on the host; the moving average if the run has one.
      config: the run's config as plain dicts.
      step: of the checkpoint.
    """

    model: AgeGenderNet
    variables: dict[str, Any]
    config: dict[str, Any]
    step: int


def load(workdir: str | Path, checkpoint: str | int = "best") -> tuple[AgeGenderNet, dict[str, Any], dict[str, Any]]:
    """Return (model, variables, config) of a trained net.

    `ensemble.predict(model, variables, images)` then gives probabilities for uint8 RGB images [B, S, S, 3], where S is
    `config["data"]["image_size"]`.

    Args:
      workdir: a run's folder, as `launch.train` writes it, or the name of shipped weights, see `weights.names`. Their
        config has only "model", "data" and "eval".
      checkpoint: of a run: "best" on val, "latest", or a step.

    Raises:
      ConfigError: the shipped weights are an ensemble.
      CheckpointError: no checkpoint is usable, or its own config does not describe it.
    """
    if weights.is_shipped(str(workdir)):
        card = weights.card(str(workdir))
        if card.members is not None:
            raise ConfigError(
                f"{card.name} is an ensemble, and not one net",
                f"load({card.name!r})",
                f"load {' or '.join(card.members)}",
            )
        return *weights.load(card), card.config
    return load_checkpoint(workdir, checkpoint)[:3]


def load_checkpoint(
    workdir: str | Path, checkpoint: str | int = "best", warn: Callable[[str], None] = lambda text: None
) -> Trained:
    """Return what `load` returns, and the step; `warn` receives a line about each damaged checkpoint skipped."""
    folder = files.expand(workdir, "--workdir") / "checkpoints"
    variables, config, step = load_variables(folder, checkpoint, warn)
    place = folder / str(step)
    check_match(variables, variable_shapes(config, f"the config of {place}"), place)
    return Trained(models.from_config(config["model"]), variables, config, step)


def checkpoint_digest(workdir: str | Path, step: int) -> str:
    """Return the SHA-256 of a checkpoint, see `checkpoint.digest`.

    Raises:
      CheckpointError: it is damaged, or a training has removed it meanwhile.
    """
    place = files.expand(workdir, "--workdir") / "checkpoints" / str(step)
    try:
        return digest(place)
    except BadCheckpoint as error:
        raise CheckpointError(f"the checkpoint cannot be used: {error}", str(place), "repeat the command") from error
