"""calibration.json of a workdir: temperatures fitted on val, and the mean age of each bucket in train."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

from agegender_jax import metrics
from agegender_jax.errors import CheckpointError
from agegender_jax.evaluation import Member
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, write_json


def fit(member: Member, faces: Dataset) -> dict:
    """What calibration.json of a run holds.

    {"age_temperature", "gender_temperature": 1.0 where val has too few images, "n": of val, 0 where too few, "step":
    of the checkpoint, "bucket_years": see `metrics.bucket_years`, of train}

    Args:
      member: its raw answers to the val split of `faces`.
    """
    age, gender = faces.targets("val")
    train = faces.indices("train")
    enough = len(gender) >= metrics.calibration.ENOUGH
    fitted = metrics.calibrated_losses(member.probs.age, member.probs.gender, age, gender) if enough else {}
    return {
        **{name: fitted.get(name, 1.0) for name in ("age_temperature", "gender_temperature")},
        "n": len(gender) if enough else 0,
        "step": member.step,
        "bucket_years": metrics.bucket_years(faces.prepared.age[train], faces.prepared.age_years[train]),
    }


def write(place: Workdir, found: dict) -> None:
    write_json(place.calibration, found)


def read(place: Workdir) -> dict | None:
    """calibration.json of a workdir; None where there is none.

    Raises:
      CheckpointError: it is damaged.
    """
    try:
        found = json.loads(place.calibration.read_bytes())
        if _usable(found):
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        pass
    raise CheckpointError(
        "calibration.json of the workdir is damaged",
        str(place.calibration),
        "delete it; training's command again fits it anew, and launch.evaluate does without",
    )


def apply(found: dict | None, raw: Member, calibrate: bool, note: Callable[[str], None]) -> Member:
    """A member with what its workdir's calibration.json says, the temperatures only if `calibrate`; notes oddities."""
    if found is None:
        if calibrate:
            note(f"{raw.name} has no calibration.json, so it is not calibrated; training's command again would fit it")
        return raw
    member = dataclasses.replace(raw, bucket_years=found["bucket_years"])
    if not calibrate:
        return member
    if found["step"] != raw.step:
        note(f"the temperatures of {raw.name} were fitted at step {found['step']}, its answers are of step {raw.step}")
    return member.calibrate(found["age_temperature"], found["gender_temperature"])


def _usable(found: Any) -> bool:
    try:
        temperatures, years = (found["age_temperature"], found["gender_temperature"]), found["bucket_years"]
        return (
            all(math.isfinite(x) for x in (*temperatures, *(years or ())))
            and min(temperatures) > 0
            and isinstance(found["step"], int)
            and (years is None or len(years) == NUM_AGE_BUCKETS)
        )
    except (KeyError, TypeError):
        return False
