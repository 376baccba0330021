"""What must hold before a run begins or goes on, and before anything of it is kept; each check raises a UserError."""

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax.errors import ConfigError, DataError, NotFiniteError
from agegender_jax.run.inputs import Faces
from agegender_jax.run.workdir import Workdir


def devices(config: ConfigDict) -> None:
    if config.batch_size % jax.device_count():
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared evenly by {jax.device_count()} devices",
            "--config.batch_size",
            f"use a multiple of {jax.device_count()}",
        )


def feed(config: ConfigDict) -> None:
    if config.model.gender_to_age == "shuffled" and (
        config.batch_size < 2 * jax.device_count() or config.eval.batch_size < 2
    ):
        raise ConfigError(
            "a shuffled feed needs at least two images a device in every batch",
            "--config.batch_size, --config.eval.batch_size",
            f"use a batch_size from {2 * jax.device_count()} and an eval.batch_size from 2",
        )


def same_run(place: Workdir, config: ConfigDict) -> bool:
    """Whether the workdir holds a run of this config already; ConfigError if it holds another."""
    earlier = place.read_config()
    if earlier is None:
        if any(place.checkpoints.glob("[0-9]*")):
            raise ConfigError(
                "the workdir holds checkpoints of a run whose config is gone",
                str(place.config),
                "restore config.json (each checkpoint has a copy), or use another --workdir",
            )
        return False
    differences = config_lib.resume_difference(earlier, config_lib.to_dict(config))
    if differences:
        raise ConfigError(
            f"the workdir holds a run with another config: {'; '.join(differences)}",
            str(place.config),
            "use another --workdir, or the config of that run",
        )
    return True


def same_data(place: Workdir, faces: Faces) -> None:
    earlier = place.read_run()
    if earlier and earlier["source"]["fingerprint"] != faces.prepared.fingerprint:
        raise DataError(
            "the source has changed since the run began",
            f"{faces.prepared.name}: fingerprint {faces.prepared.fingerprint[:16]}, "
            f"was {earlier['source']['fingerprint'][:16]}",
            "restore the source, or train in another --workdir",
        )


def finite(step: int, values) -> None:
    """Raises NotFiniteError where a number in a pytree is NaN or infinite."""
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(values)):
        raise NotFiniteError(
            f"the loss or a weight is not finite at or shortly before step {step}",
            "training",
            "lower --config.optimizer.lr or set --config.optimizer.clip_norm=1; the checkpoints before are good",
        )
