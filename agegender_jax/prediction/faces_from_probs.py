"""The prediction for a face, from the nets' probabilities and a calibration."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agegender_jax.data.utkface import MAX_AGE
from agegender_jax.errors import ConfigError
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.photos.face_chips import Chip
from agegender_jax.prediction import calibration as calibrations
from agegender_jax.prediction import intervals, minimum_age
from agegender_jax.prediction.calibration import Calibration
from agegender_jax.prediction.face import OK, UNSURE, Face, Picture
from agegender_jax.structs import Probs

CHILD, UNUSUAL = "child", "outside_training_range"
DECIMALS = 6  # of the probabilities that age groups, intervals and decisions follow from, and that files have
P_CHILD = 0.3  # probability of an age below that of `Calibration.child` from which the flag is raised


class FacesFromProbs:
    """Turn probabilities into predictions.

    Args:
      calibration: of the nets; None if none was fitted. Intervals then contain `coverage` of the probability, nothing
        is unsure, and `over` decides nothing.
      coverage, over, max_error: see `Predictor`.
      groups: `open_from` and `bucket_years` of the nets, see `members.label_groups`, for nets without a calibration.

    Raises:
      ConfigError: values are impossible, or the labels of the nets do not distinguish these ages.
    """

    def __init__(
        self,
        calibration: Calibration | None,
        coverage: float,
        ages: tuple[int, ...],
        max_error: float,
        groups: tuple[int | None, Sequence[float]] | None = None,
    ):
        if not intervals.COVERAGES[0] <= coverage <= intervals.COVERAGES[-1]:
            raise ConfigError(f"coverage {coverage} is impossible", "--coverage", "use 0.5 to 0.99")
        if not minimum_age.ERRORS[0] <= max_error <= 0.5:
            raise ConfigError(
                f"max_error {max_error} is impossible", "--max_error", f"use {minimum_age.ERRORS[0]} to 0.5"
            )
        if calibration:
            groups = calibration.open_from, calibration.bucket_years
        self.open_from, years = groups or (None, calibrations.middles(None))
        oldest = minimum_age.AGES[-1] if self.open_from is None else 10 * self.open_from
        if wrong := [n for n in ages if not (isinstance(n, int | np.integer) and minimum_age.AGES[0] <= n <= oldest)]:
            raise ConfigError(
                f"over {wrong[0]} cannot be decided", "--over", f"these nets distinguish whole years from 1 to {oldest}"
            )
        self.calibration, self.coverage, self.ages, self.max_error = calibration, coverage, ages, max_error
        self.rest = calibration.rest(coverage) if calibration else None
        self.years = np.asarray(years, np.float64)
        self.threshold = calibration.unsure["threshold"] if calibration else 0.0
        self.adult = calibration.child["below"] if calibration else calibrations.CHILD

    def add_faces(self, pictures: Sequence[tuple[Picture, list[Chip]]], probs: Probs, size: int) -> Iterator[Picture]:
        """Yield each picture with the predictions for its chips.

        Args:
          probs: of all these chips, numpy.
          size: size of the chips in `Chip.sized` that are compared with the range on val.
        """
        faces = self._faces([(picture.name, chip) for picture, chips in pictures for chip in chips], probs, size)
        for picture, chips in pictures:
            yield dataclasses.replace(picture, faces=tuple(itertools.islice(faces, len(chips)))) if chips else picture

    def intervals_and_decisions(self, age: np.ndarray) -> list[tuple[tuple[int, int], dict[int, dict[str, Any]]]]:
        """Return `Face.age_interval` and `Face.over` of each face, which depend on `coverage`, `over` and `max_error`.

        Args:
          age: probabilities, float64 [N, A], of which DECIMALS decimals are used.
        """
        age = age.round(DECIMALS)
        merged = intervals.merge_open(age, self.open_from)
        if self.calibration:
            bounds = intervals.intervals(merged, self.rest)
        else:
            bounds = intervals.smallest(merged, self.coverage)
        chances = {years: minimum_age.probability(age, years) for years in self.ages}
        return [
            (
                self._interval(bounds[i], merged.shape[1]),
                {years: self._over(years, float(p[i])) for years, p in chances.items()},
            )
            for i in range(len(age))
        ]

    def _faces(self, chips: list[tuple[str, Chip]], probs: Probs, size: int) -> Iterator[Face]:
        """Yield the prediction for each chip.

        Args:
          chips: chips with the names of their pictures.
        """
        age = np.asarray(probs.age, np.float64)
        groups = intervals.merge_open(age.round(DECIMALS), self.open_from).argmax(-1)
        stated = self.intervals_and_decisions(age)
        child = 1 - minimum_age.probability(age, self.adult)
        expected = (age * self.years).sum(-1)  # a matrix product's last bits would depend on the number of rows
        unusual = self._unusual(np.stack([chip.sized[size] for _, chip in chips]))
        for i, (name, chip) in enumerate(chips):
            p_female = float(probs.gender[i, 1])
            flags = [*chip.flags]
            flags += [UNUSUAL] if unusual[i] else []
            flags += [CHILD] if child[i] >= P_CHILD else []
            yield Face(
                age=round(float(expected[i]), 2),
                age_interval=stated[i][0],
                coverage=self.coverage,
                age_bucket=self._bucket(int(groups[i])),
                age_probs=tuple(probs.age[i].tolist()),
                gender=GENDERS[int(p_female > 0.5)],
                p_female=p_female,
                box=_rounded(chip.box),
                score=None if chip.score is None else round(chip.score, 4),
                landmarks=None if chip.landmarks is None else tuple(_rounded(point) for point in chip.landmarks),
                flags=tuple(flags),
                status=UNSURE if max(p_female, 1 - p_female) < self.threshold else OK,
                over=stated[i][1],
                calibrated=self.calibration is not None,
                picture=name,
                sized=chip.sized,
            )

    def _over(self, years: int, p: float) -> dict[str, Any]:
        if self.calibration is None:
            return {"p": p, "decision": minimum_age.UNSURE}
        thresholds = minimum_age.row(self.calibration.over, years, self.max_error)
        return {"p": p, "decision": minimum_age.decide(p, *thresholds)}

    def _interval(self, bounds: np.ndarray, groups: int) -> tuple[int, int]:
        first, last = int(bounds[0]), int(bounds[1])
        return 10 * first, MAX_AGE if last == groups - 1 else 10 * last + 9

    def _bucket(self, group: int) -> str:
        return f"{10 * group}+" if group == self.open_from else AGE_BUCKETS[group]

    def _unusual(self, chips: np.ndarray) -> np.ndarray:
        """Return bool [N], whether brightness or contrast is outside the range of nearly all chips of val."""
        ranges = self.calibration.image if self.calibration else None
        if ranges is None:
            return np.zeros(len(chips), bool)
        low, high = np.array([ranges["brightness"], ranges["contrast"]]).T
        values = calibrations.brightness_and_contrast(chips)
        return ((values < low) | (values > high)).any(-1)


def _rounded(values: Any) -> tuple[Any, ...]:
    return tuple(round(float(value), 2) for value in values)
