"""Checks before a run starts or resumes, and before its state is saved; each raises a UserError."""

from ml_collections import ConfigDict

from agegender_jax.run.checks.config import batch_norm, deterministic, devices, feed, local_paths, parts
from agegender_jax.run.checks.data import batch_fits, empty_splits
from agegender_jax.run.checks.finite_numbers import finite, is_finite
from agegender_jax.run.checks.options import lacking, options
from agegender_jax.run.checks.processes import even_devices, same_config_everywhere, same_data_everywhere
from agegender_jax.run.checks.resumption import same_data, same_recipe, same_run
from agegender_jax.run.host import processes

__all__ = [
    "batch_fits",
    "before_data",
    "deterministic",
    "devices",
    "empty_splits",
    "feed",
    "finite",
    "is_finite",
    "lacking",
    "options",
    "own_config",
    "parts",
    "same_data",
    "same_data_everywhere",
    "same_recipe",
    "same_run",
]


def before_data(config: ConfigDict) -> None:
    """Check everything that needs no data: the devices, the configs of the processes, and the options of the net."""
    even_devices()
    processes.connect()
    with processes.sync_errors():
        same_config_everywhere(config)
    with processes.sync_errors():
        own_config(config)


def own_config(config: ConfigDict) -> None:
    """Check everything that needs neither data nor other processes."""
    local_paths(config)
    deterministic(config)
    batch_norm(config)
    options(config)
    devices(config)
    feed(config)
    parts(config)
