"""Checks of a config against the devices, the net and the paths of this machine."""

import jax
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import files, models
from agegender_jax.errors import ConfigError
from agegender_jax.run.host import determinism

PATHS = ("data.source", "data.train_on", "data.exclude", "data.splits", "data.cache_dir", "init_from", "loss.teacher")


def local_paths(config: ConfigDict) -> None:
    """Raise ConfigError if a field is a URL or names an unknown home folder."""
    for field, paths in config_lib.flat(config):
        if field in PATHS:
            for path in filter(None, files.split_names(paths)):
                files.expand(path, f"--config.{field}")


def devices(config: ConfigDict) -> None:
    if config.batch_size % jax.device_count():
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared evenly by {jax.device_count()} devices",
            "--config.batch_size",
            f"use a multiple of {jax.device_count()}",
        )


def deterministic(config: ConfigDict) -> None:
    """Raise ConfigError if GPUs were started without the setting that `deterministic` needs."""
    if config.deterministic and jax.default_backend() == "gpu" and not determinism.is_requested():
        raise ConfigError(
            "deterministic=True must be set before jax starts",
            "--config.deterministic",
            f"call agegender_jax.run.host.determinism.request() first, or set XLA_FLAGS={determinism.FLAG}=true",
        )


def batch_norm(config: ConfigDict) -> None:
    """Raise ConfigError for an option that the net does not have, or if BatchNorm would see one image at a time."""
    model = models.from_config(config.model)
    has_batch_norm = any(hasattr(part, "axis_name") for part in (model, getattr(model, "backbone", None)))
    if has_batch_norm and config.batch_size // config.accumulate == 1:
        raise ConfigError(
            "BatchNorm cannot learn statistics from one image at a time",
            f"--config.batch_size={config.batch_size}, --config.accumulate={config.accumulate}",
            "use at least two images in each part of the batch",
        )


def parts(config: ConfigDict) -> None:
    """Raise ConfigError if a device's batch has no equal parts, or if mixup would mix examples of different parts."""
    count = jax.device_count() * config.accumulate
    where = f"--config.batch_size={config.batch_size}, {jax.device_count()} devices, accumulate {config.accumulate}"
    if config.batch_size % count:
        raise ConfigError("the batch cannot be divided into equal parts", where, f"use a multiple of {count}")
    if config.augment.mixup and config.batch_size % (2 * count):
        raise ConfigError(
            "mixup needs an even number of images on each device and in each part",
            where,
            f"use a multiple of {2 * count}, or --config.augment.mixup=0",
        )


def feed(config: ConfigDict) -> None:
    least = (4 if config.augment.mixup else 2) * jax.device_count() * config.accumulate
    if config.model.gender_to_age == "shuffled" and (config.batch_size < least or config.eval.batch_size < 2):
        raise ConfigError(
            "a shuffled feed needs at least two images, and with mixup four, on each device and in each part",
            "--config.batch_size, --config.eval.batch_size",
            f"use a batch_size from {least} and an eval.batch_size from 2",
        )
