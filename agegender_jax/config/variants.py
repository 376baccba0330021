"""Variants of a config, chosen after the colon of `--config=FILE:VARIANT`."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from agegender_jax.errors import ConfigError
from agegender_jax.suggestions import nearest


def paper(config: ConfigDict) -> None:
    """Set the paper's literal optimisation: Adam at a constant rate of 0.005 and nothing else."""
    config.optimizer.update(schedule="constant", warmup=0.0, clip_norm=0.0)


def apply_variants(config: ConfigDict, text: str, *groups: Mapping[str, Callable[..., None]]) -> ConfigDict:
    """Apply the comma-separated variants of a config file's argument, at most one of each group.

    They are applied in the order of `groups`, so the order in which a user names them makes no difference.

    Raises:
      ConfigError: an unknown variant, or two of one group.
    """
    where = "--config=FILE:VARIANT"
    chosen = set(filter(None, (text or "").split(",")))
    known = [name for group in groups for name in group]
    if unknown := sorted(chosen.difference(known)):
        raise ConfigError(f"unknown variant {unknown[0]!r}", where, nearest(unknown[0], known))
    for group in groups:
        of_group = [name for name in group if name in chosen]
        if len(of_group) > 1:
            raise ConfigError(
                f"the variants {' and '.join(of_group)} exclude each other", where, f"name one of {', '.join(group)}"
            )
        for name in of_group:
            group[name](config)
    return config
