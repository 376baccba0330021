"""Scores within groups of faces, and the largest differences between groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.labels import GENDERS, RACES
from agegender_jax.metrics.accuracy import SCORES, outcomes, range_name
from agegender_jax.metrics.intervals import bootstrap_varied, wilson

SMALL = 30  # smaller groups are marked as small
BANDS = (0, 18, 30, 45, 60)  # years, the first of each; the last has no end


def by_group(
    age_probs: np.ndarray,
    gender_probs: np.ndarray,
    age: np.ndarray,
    gender: np.ndarray,
    race: np.ndarray,
    bands: Sequence[str],
    copies: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return scores by gender, race and age group, in the order of the codes, for cells of all three, and largest gaps.

    Args:
      race: int [N], index into RACES. bands: [N], the age band of the cells, as `age_bands` gives them.
      copies: int [N], equal for near-duplicates, the `group` of `intervals`. The rest as `outcomes`.

    Returns:
      "gender", "race", "age": {name: row}; "cells": rows with "age", "gender" and "race"; groups without examples are
      left out. A row has n, small (n < SMALL), the scores and "ci95". "gaps": as from `gaps`, for each of the four.
    """
    values_by_score = outcomes(age_probs, gender_probs, age, gender)
    age, gender, race, band_of = (np.asarray(x) for x in (age, gender, race, bands))
    array_checks.check(gender=(gender, "int N"), race=(race, "int N"))
    if len(band_of) != len(gender):
        raise ValueError(f"bands must be [N] where N = {len(gender)}, got {len(band_of)}")
    num_ages, num_genders = np.shape(age_probs)[1], np.shape(gender_probs)[1]
    genders = GENDERS if num_genders == len(GENDERS) else [str(i) for i in range(num_genders)]

    def row(of: np.ndarray) -> dict[str, Any]:
        values = {name: values[of] for name, values in values_by_score.items()}
        means = {name: float(v.mean()) for name, v in values.items()}
        inside = None if copies is None else np.asarray(copies)[of]
        intervals = {
            name: bootstrap_varied(v, inside) if name == "aabd" else wilson(v, inside) for name, v in values.items()
        }
        return {"n": int(of.sum()), "small": bool(of.sum() < SMALL), **means, "ci95": intervals}

    groups = {
        "gender": {name: row(gender == i) for i, name in enumerate(genders) if (gender == i).any()},
        "race": {name: row(race == i) for i, name in enumerate(RACES) if (race == i).any()},
        "age": {range_name(a, b, num_ages): row((age == (a, b)).all(-1)) for a, b in np.unique(age, axis=0)},
    }
    cells = [
        {"age": band, "gender": genders[g], "race": RACES[r]} | row(inside)
        for band in sorted(set(band_of.tolist()), key=_years)
        for g in range(num_genders)
        for r in range(len(RACES))
        if (inside := (band_of == band) & (gender == g) & (race == r)).any()
    ]
    named = {", ".join((cell["age"], cell["gender"], cell["race"])): cell for cell in cells}
    differences = {kind: gaps(rows) for kind, rows in (groups | {"cells": named}).items()}
    return groups | {"cells": cells, "gaps": differences}


def gaps(rows: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """Return for each score the largest difference between groups that are not small, and the names of both groups.

    Returns:
      {score: {"largest": float, "between": [highest, lowest]}}, or {score: None} if fewer than two groups are left.
    """
    large = {name: row for name, row in rows.items() if not row["small"]}
    if len(large) < 2:
        return dict.fromkeys(SCORES)
    differences: dict[str, dict[str, Any] | None] = {}
    for score in SCORES:
        low, *_, high = sorted(large, key=lambda name: large[name][score])
        differences[score] = {"largest": large[high][score] - large[low][score], "between": [high, low]}
    return differences


def age_bands(age_years: np.ndarray, age_text: Sequence[str]) -> list[str]:
    """Return N names of age bands, "0-17" to "60+"; the text of the label if years are unknown (-1)."""
    names = [f"{a}-{b - 1}" for a, b in zip(BANDS, BANDS[1:], strict=False)] + [f"{BANDS[-1]}+"]
    band = np.searchsorted(BANDS, age_years, side="right") - 1
    return [names[i] if i >= 0 else str(text) for i, text in zip(band, age_text, strict=True)]


def _years(band: str) -> tuple[int, str]:
    """Return a sort key: bands are ordered by their first number."""
    digits = "".join(c if c.isdigit() else " " for c in band).split()
    return (int(digits[0]) if digits else 0, band)
