"""The shapes of a net's variables, from the config of its run."""

from typing import Any

import jax
import jax.numpy as jnp

from agegender_jax import models
from agegender_jax.data.views import VIEWS
from agegender_jax.errors import CheckpointError, UserError


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
