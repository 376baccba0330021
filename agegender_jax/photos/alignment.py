"""Aligned chips: a similarity transform maps five landmarks of a face to their positions in the chip.

Training and prediction use the same chips.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from agegender_jax.image_constants import LANDMARKS
from agegender_jax.photos.detector import Detection, detect_once, opencv

CHIP_SIZE = 112  # pixels: about as many as a FairFace picture of 128 has under a chip
TEMPLATE = np.array(LANDMARKS)  # float64 [5, 2], x and y in fractions of the side
# Crops in which the face is detected again: their side and that of the chip in the middle, in pixels; mirrored or not.
# Each step averages the landmarks of its crops. benchmarks/alignment.py compares with other plans.
STEPS = (
    ((128, 80, False),),
    tuple((*size, mirrored) for size in ((128, 64), (128, 80), (160, 96), (192, 128)) for mirrored in (False, True)),
)
_SCORE = 0.3  # in a crop, where a face is known to be
_SWAPPED = (1, 0, 2, 4, 3)  # landmarks of a mirrored face
_GREY = (127, 127, 127)  # around the picture in a crop; repeated edges look like parts of the face
_LARGEST = 32  # times the chip: the warped picture from which it is averaged
_LONGEST = 32_000  # pixels of a side; OpenCV's warpAffine takes less than 32,767


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The similarity from a picture to the unit square of a chip.

    Attributes:
      matrix: float64 [2, 3]; x, y, 1 of the picture (pixel i spans i to i + 1) to fractions of the chip's side.
      landmarks: float64 [5, 2] in the picture, after the last iteration.
    """

    matrix: np.ndarray
    landmarks: np.ndarray

    @property
    def side(self) -> float:
        """The chip's side in pixels of the picture."""
        return 1 / float(np.hypot(*self.matrix[:, 0]))

    @property
    def roll(self) -> float:
        """Degrees by which the face is turned clockwise in the picture, -180 to 180."""
        return -float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    def in_picture(self, points: np.ndarray) -> np.ndarray:
        """Return points [N, 2], fractions of the chip's side, as pixels of the picture, float64 [N, 2]."""
        return _invert(self.matrix, points)

    def corners(self) -> np.ndarray:
        """Return float64 [4, 2], the chip's corners in the picture."""
        return self.in_picture(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))


def align(
    image: np.ndarray, detection: Detection, steps: Sequence[Sequence[tuple[int, int, bool]]] = STEPS
) -> Alignment:
    """Return the alignment of a face: the similarity of its landmarks to TEMPLATE.

    Detected landmarks of a tilted face are biased towards upright, and they are accurate only to a few pixels. The face
    is therefore rotated and scaled by the landmarks so far and detected again, twice.

    Args:
      image: uint8 RGB [H, W, 3].
      detection: of a face in it.
      steps: as STEPS; () to use the landmarks of the detection.
    """
    landmarks = detection.landmarks
    matrix = similarity(landmarks, TEMPLATE)
    for crops in steps:
        again = [points for crop in crops if (points := _detect_again(image, matrix, *crop)) is not None]
        if not again:
            break
        landmarks = np.mean(again, 0)
        matrix = similarity(landmarks, TEMPLATE)
    return Alignment(matrix, landmarks)


def chip(image: np.ndarray, alignment: Alignment, size: int = CHIP_SIZE) -> np.ndarray:
    """Return uint8 RGB [size, size, 3], the aligned face; pixels outside the picture repeat its edge.

    Each pixel is the mean of at least all pixels of the picture that it covers.
    """
    factor = int(np.clip(np.ceil(alignment.side / size), 1, _LARGEST))
    warped = warp(image, alignment.matrix * (size * factor), size * factor)
    if factor == 1:
        return warped
    cv2 = opencv()
    return cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return float64 [2, 3], the rotation, scale and shift that best map points [N, 2] to target [N, 2].

    This is the least-squares solution without reflection (Umeyama 1991, doi 10.1109/34.88573). Points that all coincide
    give a scale of 0.
    """
    mean, target_mean = points.mean(0), target.mean(0)
    (x, y), (u, v) = (points - mean).T, (target - target_mean).T
    spread = max(float((x * x + y * y).sum()), np.finfo(np.float64).tiny)
    a, b = float((x * u + y * v).sum()) / spread, float((x * v - y * u).sum()) / spread
    turn = np.array([[a, -b], [b, a]])  # as complex numbers: target = (a + ib) point + shift
    return np.column_stack([turn, target_mean - turn @ mean])


def _detect_again(image: np.ndarray, matrix: np.ndarray, size: int, side: int, mirrored: bool) -> np.ndarray | None:
    """Return the landmarks [5, 2], in the picture, of the face in the middle of a crop; None if there is none."""
    to_crop = matrix * side
    to_crop[:, 2] += (size - side) / 2
    if mirrored:
        to_crop = np.array([[-1], [1]]) * to_crop
        to_crop[0, 2] += size
    faces = detect_once(warp(image, to_crop, size, _GREY), _SCORE)
    distances = [float(np.abs(face.centre - size / 2).max()) for face in faces]
    if not faces or min(distances) >= side / 2:
        return None
    points = faces[int(np.argmin(distances))].landmarks
    return _invert(to_crop, points[list(_SWAPPED)] if mirrored else points)


def warp(
    image: np.ndarray, matrix: np.ndarray, size: int, border_colour: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Return [size, size, 3] by bilinear interpolation; `matrix` maps pixels of the picture to pixels of the result.

    Pixels outside the picture have `border_colour`, or repeat its edge if that is None. If the picture is longer than
    _LONGEST, only every second pixel is used, or fewer.
    """
    cv2 = opencv()
    if (step := -(-max(image.shape[:2]) // _LONGEST)) > 1:
        image, matrix = image[::step, ::step], matrix * (step, step, 1)
    centred = matrix.copy()  # OpenCV's pixel i has its middle at i
    centred[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    border = cv2.BORDER_REPLICATE if border_colour is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        image, centred, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=border_colour or ()
    )


def _invert(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T
