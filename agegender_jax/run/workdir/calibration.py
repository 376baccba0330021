"""calibration.json of a workdir: temperatures fitted on val, and the mean age of each bucket in train."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

from agegender_jax import files, metrics
from agegender_jax.errors import CheckpointError
from agegender_jax.evaluation import Member
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction import members
from agegender_jax.prediction.calibration import open_group
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, write_json


def fit(member: Member, dataset: Dataset, val_trained_on: int = 0) -> dict:
    """Return the content of calibration.json of a run.

    {"age_temperature", "gender_temperature": 1.0 where val has too few images, "n": of val, 0 where too few, "step":
    of the checkpoint, "bucket_years": see `metrics.bucket_years`, of train, "open_from": see
    `prediction.calibration.open_group`, "views": of the images, "val_trained_on": the argument}

    Args:
      member: the member with its raw predictions for the val split of `dataset`.
      val_trained_on: how many images of val the nets were trained on that the run started or learned from.
    """
    age, gender = dataset.targets("val")
    train = dataset.indices("train")
    enough = len(gender) >= metrics.calibration.ENOUGH
    fitted = metrics.calibrated_losses(member.probs.age, member.probs.gender, age, gender) if enough else {}
    return {
        **{name: fitted.get(name, 1.0) for name in ("age_temperature", "gender_temperature")},
        "n": len(gender) if enough else 0,
        "step": member.step,
        "bucket_years": metrics.bucket_years(dataset.prepared.age[train], dataset.prepared.age_years[train]),
        "open_from": open_group(age, dataset.prepared.age[train]),
        "views": member.views,
        "val_trained_on": val_trained_on,
    }


def write(run: Workdir, calibration: dict) -> None:
    write_json(run.calibration, files.seal(calibration))


def read(run: Workdir) -> dict | None:
    """Return calibration.json of a workdir; None if there is none.

    Raises:
      CheckpointError: it is damaged.
    """
    try:
        calibration = json.loads(run.calibration.read_bytes())
        files.check_seal(calibration)
        if _usable(calibration):
            return calibration
    except FileNotFoundError:
        return None
    except (OSError, *files.MALFORMED):
        pass
    raise CheckpointError(
        "calibration.json of the workdir is damaged",
        str(run.calibration),
        "delete it; repeating the training command fits it again, and launch.evaluate works without it",
    )


def open_from(run: Workdir) -> int | None:
    """Return the first bucket of the open last group of a run's ages; None if there is none.

    Raises:
      CheckpointError: see `read`; or answers.json, which alone has it in runs of version 0.2, is damaged.
    """
    fitted = read(run)
    if fitted is not None and "open_from" in fitted:
        return fitted["open_from"]
    found = members.as_calibration(members.own_thresholds(run.path), run.path / members.ANSWERS)
    return found.open_from if found else None


def apply(calibration: dict | None, raw: Member, calibrate: bool, note: Callable[[str], None]) -> Member:
    """Return the member with its bucket_years and, if `calibrate`, with its temperatures; `note` receives warnings."""
    if calibration is None:
        if calibrate:
            note(f"{raw.name} has no calibration.json, so it is not calibrated; repeating the training command fits it")
        return raw
    member = dataclasses.replace(raw, bucket_years=calibration["bucket_years"])
    if not calibrate:
        return member
    if calibration["step"] != raw.step:
        note(
            f"the temperatures of {raw.name} were fitted at step {calibration['step']}, "
            f"its predictions are of step {raw.step}"
        )
    if (views := calibration.get("views", raw.views)) != raw.views:  # runs of version 0.2 do not record them
        note(f"the temperatures of {raw.name} were fitted with views={views}, its predictions have views={raw.views}")
    return member.calibrate(calibration["age_temperature"], calibration["gender_temperature"])


def _usable(calibration: Any) -> bool:
    try:
        temperatures = calibration["age_temperature"], calibration["gender_temperature"]
        years, start = calibration["bucket_years"], calibration.get("open_from")
        return (
            all(math.isfinite(x) for x in (*temperatures, *(years or ())))
            and min(temperatures) > 0
            and isinstance(calibration["step"], int)
            and (years is None or len(years) == NUM_AGE_BUCKETS)
            and (start is None or (isinstance(start, int) and 0 < start < NUM_AGE_BUCKETS))
        )
    except files.MALFORMED:
        return False
