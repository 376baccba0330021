"""How a run was trained, from the files in its workdir: for reports and the model card."""

import collections
import csv
from collections.abc import Callable

from agegender_jax import config as config_lib
from agegender_jax import files, report
from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir import Workdir
from agegender_jax.run.workdir.metrics_log import MetricsLog


def read(run: Workdir, name: str, step: int) -> report.Run:
    """Return how a run was trained; the fields of a missing or damaged file are empty.

    A config field that is newer than the run gets its default value.

    Args:
      name: of the run in the results.
      step: of the evaluated checkpoint.
    """
    config = config_lib.default()
    config.update(_read_or_none(run.read_config) or {})
    return report.Run(
        name,
        step,
        config_lib.to_dict(config),
        _read_or_none(run.read_run) or {},
        split_sizes(run),
        MetricsLog(run.metrics).read(),
        _read_or_none(run.read_calibration),
    )


def write_card(run: Workdir) -> None:
    """Write MODEL_CARD.md of a finished run from its files."""
    results = run.read_results() or {}
    model = results["models"][-1]
    files.replace(run.card, report.card(read(run, model["name"], model["step"]), results))


def _read_or_none(reading: Callable[[], dict | None]) -> dict | None:
    try:
        return reading()
    except ConfigError:
        return None


def split_sizes(run: Workdir) -> dict[str, int]:
    """Return the number of images in train, val and test; {} if splits.csv cannot be read."""
    try:
        with open(run.splits, newline="", encoding="utf-8", errors="surrogateescape") as file:
            counts = collections.Counter(row["split"] for row in csv.DictReader(file))
    except (OSError, KeyError):
        return {}
    return {name: counts[name] for name in ("train", "val", "test")}
