"""Loading a trained net from the folder of its run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agegender_jax import files, models
from agegender_jax.checkpoint import check_match, digest, load_variables
from agegender_jax.data.views import VIEWS
from agegender_jax.errors import CheckpointError, UserError
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
      workdir: a run's folder, as `launch.train` writes it.
      checkpoint: "best" on val, "latest", or a step.

    Raises:
      CheckpointError: no checkpoint is usable, or its own config does not describe it.
    """
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
    """Return the SHA-256 of a checkpoint, see `checkpoint.digest`."""
    return digest(files.expand(workdir, "--workdir") / "checkpoints" / str(step))


def variable_shapes(config: dict[str, Any], where: str = "config") -> Any:
    """Return the variables of a config's net as jax.ShapeDtypeStruct; nothing is computed.

    Args:
      config: "model", "data" and "eval" of a run's config, which may contain anything if it is not trusted.
      where: the location to name in an error.

    Raises:
      ConfigError: an option that the net does not have.
      CheckpointError: the config does not describe a net.
    """
    try:
        VIEWS[config.get("eval", {}).get("views", "none")]
        model, size = models.from_config(config["model"]), config["data"]["image_size"]
        image = jax.eval_shape(lambda: jnp.zeros((1, size, size, 3)))
        return jax.eval_shape(lambda image: model.init(jax.random.key(0), image, train=False), image)
    except UserError:
        raise
    except Exception as error:  # nets raise many kinds where a field is absent or of another type
        reason = f"{type(error).__name__} {error}".splitlines()[0][:120]
        raise CheckpointError(f"it describes no net: {reason}", where, "use another run or other weights") from error
