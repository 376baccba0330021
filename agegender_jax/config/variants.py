"""Variants of a config, chosen after the colon of `--config=FILE:VARIANT`."""

from collections.abc import Callable

from ml_collections import ConfigDict

from agegender_jax.errors import ConfigError
from agegender_jax.suggestions import nearest


def paper(config: ConfigDict) -> None:
    """Set the paper's literal optimisation: Adam at a constant rate of 0.005 and nothing else."""
    config.optimizer.update(schedule="constant", warmup=0.0, clip_norm=0.0)


def apply_variants(config: ConfigDict, text: str, variants: dict[str, Callable[[ConfigDict], None]]) -> ConfigDict:
    """Apply the comma-separated variants of a config file's argument, in the order of `variants`.

    So the order in which a user names them makes no difference; of two that contradict each other, the later one in
    `variants` counts.

    Raises:
      ConfigError: an unknown variant.
    """
    chosen = list(filter(None, (text or "").split(",")))
    for name in chosen:
        if name not in variants:
            raise ConfigError(f"unknown variant {name!r}", "--config=FILE:VARIANT", nearest(name, variants))
    for name, apply in variants.items():
        if name in chosen:
            apply(config)
    return config
