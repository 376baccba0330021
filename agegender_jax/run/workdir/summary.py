"""What a workdir says of its training, for reports and the model card."""

import collections
import csv
from collections.abc import Callable

from agegender_jax import config as config_lib
from agegender_jax import files, report
from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir import Workdir
from agegender_jax.run.workdir.logs import MetricsLog


def read(place: Workdir, name: str, step: int) -> report.Run:
    """The facts of a run under the name that it has in the results; a missing or damaged file says nothing.

    A field of the config that is younger than the run had its default then.
    """
    config = config_lib.default()
    config.update(_found(place.read_config) or {})
    return report.Run(
        name,
        step,
        config_lib.to_dict(config),
        _found(place.read_run) or {},
        _split_sizes(place),
        MetricsLog(place.metrics).read(),
        _found(place.read_calibration),
    )


def write_card(place: Workdir) -> None:
    """MODEL_CARD.md of a finished run, from its files."""
    results = place.read_results() or {}
    model = results["models"][-1]
    files.replace(place.card, report.card(read(place, model["name"], model["step"]), results))


def _found(reading: Callable[[], dict | None]) -> dict | None:
    try:
        return reading()
    except ConfigError:
        return None


def _split_sizes(place: Workdir) -> dict[str, int]:
    try:
        with open(place.splits, newline="", encoding="utf-8", errors="surrogateescape") as file:
            counts = collections.Counter(row["split"] for row in csv.DictReader(file))
    except (OSError, KeyError):
        return {}
    return {name: counts[name] for name in ("train", "val", "test")}
