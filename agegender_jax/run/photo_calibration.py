"""answers.json of a run: intervals and thresholds of predictions for photos, fitted on val."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax import files
from agegender_jax.evaluation import Member, ensemble_probs
from agegender_jax.loading import checkpoint_digest
from agegender_jax.prediction import calibration
from agegender_jax.prediction.members import ANSWERS, ensemble_key, fitted_with
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir


def fit(members: Sequence[Member], dataset: Dataset, image_size: int) -> dict[str, Any] | None:
    """Return the fields of the `Calibration` of members; None if val is too small.

    Args:
      members: the members with their calibrated predictions for the val split of `dataset`.
      image_size: image size of the largest net.
    """
    where, prepared = dataset.indices("val"), dataset.prepared
    age, gender = dataset.targets("val")
    years = [member.bucket_years for member in members if member.bucket_years]
    return calibration.fit(
        ensemble_probs(members),
        age,
        gender,
        prepared.age_years[where],
        np.mean(years, 0).tolist() if years else None,
        prepared.images(image_size)[where],
        train_age=prepared.age[dataset.indices("train")],
    )


def write(run: Workdir, members: Sequence[Member], fitted: dict[str, Any], workdirs: Sequence[str]) -> None:
    """Write answers.json of a run: its own calibration, or that of an ensemble whose first member it is."""
    path = run.path / ANSWERS
    try:
        earlier = json.loads(path.read_bytes())
        files.check_seal(earlier)
        ensembles = dict(earlier["ensembles"])
    except (OSError, *files.MALFORMED):
        ensembles = {}
    digests = [checkpoint_digest(path, member.step) for path, member in zip(workdirs, members, strict=True)]
    ensembles[ensemble_key(workdirs)] = {"checkpoints": digests, **fitted_with(members), "answers": fitted}
    files.replace(path, files.to_json(files.seal({"schema": 1, "ensembles": ensembles})) + "\n")
