"""Predictions for faces and pictures."""

import dataclasses
from typing import Any

import numpy as np

OK, UNSURE, NO_FACE, UNREADABLE = "ok", "unsure", "no_face", "unreadable"
STATUSES = (OK, UNSURE, NO_FACE, UNREADABLE)


@dataclasses.dataclass(frozen=True)
class Face:
    """The prediction for a face: apparent age and perceived gender.

    Attributes:
      age: years.
      age_interval: the lowest and the highest age in years of a set of adjacent age groups. If `calibrated`, it
        contains the true group for at least `coverage` of all faces like those of val.
      coverage: 0 to 1.
      age_bucket: the most probable group, such as "30-39".
      age_probs: probability of each bucket of ten years, 0-9 first.
      gender: "male" or "female".
      p_female: 0 to 1.
      box: x, y, width and height in pixels of the upright picture.
      score: detection score, 0 to 1; None without a detector.
      landmarks: x and y of the eyes, the nose and the mouth's corners, those on the picture's left first; None without
        a detector.
      flags: warnings, see docs/predict.md.
      status: "ok", or "unsure" if the probability of the gender is below the one that gives an accuracy of
        `calibration.CONFIDENT`.
      over: {years: {"p": probability, "decision": "yes", "no" or "unsure"}}.
      calibrated: whether thresholds fitted on val were available.
      picture: name of the picture.
      sized: side -> uint8 RGB [side, side, 3], the input of the nets of that size.
    """

    age: float
    age_interval: tuple[int, int]
    coverage: float
    age_bucket: str
    age_probs: tuple[float, ...]
    gender: str
    p_female: float
    box: tuple[float, float, float, float]
    score: float | None
    landmarks: tuple[tuple[float, float], ...] | None
    flags: tuple[str, ...]
    status: str
    over: dict[int, dict[str, Any]]
    calibrated: bool
    picture: str
    sized: dict[int, np.ndarray] = dataclasses.field(repr=False, compare=False)

    @property
    def chip(self) -> np.ndarray:
        """The largest input of the nets, uint8 RGB [S, S, 3]."""
        return self.sized[max(self.sized)]

    @property
    def confidence(self) -> float:
        """The probability of the predicted gender, 0.5 to 1."""
        return max(self.p_female, 1 - self.p_female)


@dataclasses.dataclass(frozen=True)
class Picture:
    """The faces of a picture, or why there are none.

    Attributes:
      name: of the file.
      status: "ok", "no_face" or "unreadable".
      reason: why it is unreadable; otherwise "".
      faces: from left to right.
      preview: uint8 RGB with a longest side of at most `previews` if previews were requested; otherwise None.
      scale: factor from pixels of the picture to pixels of the preview.
    """

    name: str
    status: str
    reason: str
    faces: tuple[Face, ...]
    preview: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    scale: float = 1.0
