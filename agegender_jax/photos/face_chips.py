"""All faces of a picture as chips for nets."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from agegender_jax.data.decoding import resize
from agegender_jax.photos import alignment, detector
from agegender_jax.photos.detector import Detection
from agegender_jax.photos.face_flags import flags

YUNET, NONE = "yunet", "none"
# Median box of YuNet around a chip: left, top, width, height as fractions of the chip's side (600 chips of UTKFace).
BOX = np.array([0.057, -0.135, 0.866, 1.102])


@dataclasses.dataclass(frozen=True)
class Chip:
    """A face of a picture, ready for nets.

    Attributes:
      box: x, y, width, height in pixels of the picture.
      score: detection score; None without a detector.
      landmarks: float64 [5, 2] in pixels of the picture, see `detector.Detection`; None without a detector.
      flags: see `photos.face_flags`.
      sized: size -> uint8 RGB [size, size, 3].
    """

    box: tuple[float, float, float, float]
    score: float | None
    landmarks: np.ndarray | None
    flags: list[str]
    sized: dict[int, np.ndarray]


def find(
    image: np.ndarray,
    sizes: Iterable[int],
    *,
    kind: str = YUNET,
    score: float = detector.SCORE,
    boxes: Sequence[Sequence[float]] | None = None,
    chip_size: int = alignment.CHIP_SIZE,
) -> list[Chip]:
    """Return the faces of a picture, from left to right, then from top to bottom.

    Args:
      image: uint8 RGB [H, W, 3].
      sizes: sides of the nets' inputs in pixels.
      kind: "yunet", or "none" for a picture that is a chip.
      score: minimum score of a face.
      boxes: x, y, width and height of the faces, in order; only the landmarks in them are detected.
      chip_size: side of the aligned chip, which is then resized as in training.
    """
    sizes = sorted(set(sizes))
    if kind == NONE and boxes is None:
        height, width = image.shape[:2]
        side = min(height, width)
        box = (float((width - side) // 2), float((height - side) // 2), float(side), float(side))
        sized = {size: resize(image, size) for size in sizes}
        return [Chip(box, None, None, flags(resize(image, chip_size), image.shape, None), sized)]
    if boxes is not None:
        detections = [_from_box(box) for box in boxes]
    else:
        detections = sorted(detector.detect(image, score), key=lambda face: face.box[:2])
    return [_chip(image, detection, sizes, max(chip_size, *sizes), boxes is None) for detection in detections]


def _chip(image: np.ndarray, detection: Detection, sizes: list[int], chip_size: int, scored: bool) -> Chip:
    aligned = alignment.align(image, detection)
    chip = alignment.chip(image, aligned, chip_size)
    sized = {size: resize(chip, size) for size in sizes}
    warnings = flags(chip, image.shape, aligned)
    return Chip(detection.box, detection.score if scored else None, aligned.landmarks, warnings, sized)


def _from_box(box: Sequence[float]) -> Detection:
    """Return a detection with the landmarks that an upright face in a box has."""
    x, y, width, height = map(float, box)
    side = (width / BOX[2] + height / BOX[3]) / 2
    corner = np.array([x + width / 2, y + height / 2]) - side * (BOX[:2] + BOX[2:] / 2)
    return Detection((x, y, width, height), corner + side * alignment.TEMPLATE, 1.0)
