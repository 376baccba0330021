"""Sizes of the images of a prepared source, and whether they show anything."""

import dataclasses

import numpy as np
from PIL import Image

from agegender_jax.data.cache import Progress
from agegender_jax.data.decoding import decode
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.data.prepared_source import Prepared

TINY = 32  # pixels of the shorter side: the smallest image that can be trained on
BLANK = 8.0  # standard deviation of grey levels, 0 to 255


@dataclasses.dataclass(frozen=True)
class ImageStats:
    """Statistics of N decoded images.

    Attributes:
      width, height: in pixels, int [N]. spread: standard deviation of the grey levels, float [N].
    """

    width: np.ndarray
    height: np.ndarray
    spread: np.ndarray

    def tiny(self) -> np.ndarray:
        """Return the indices of images whose shorter side is below TINY pixels."""
        return np.flatnonzero(np.minimum(self.width, self.height) < TINY)

    def blank(self) -> np.ndarray:
        """Return the indices of images whose spread is below BLANK, lowest first."""
        indices = np.flatnonzero(self.spread < BLANK)
        return indices[np.argsort(self.spread[indices], kind="stable")]

    def sizes(self) -> list[tuple[int, int, int]]:
        """Return (width, height, number of images), most frequent first."""
        sizes, counts = np.unique(np.stack([self.width, self.height], 1), axis=0, return_counts=True)
        return sorted(((*s, n) for s, n in zip(sizes.tolist(), counts.tolist(), strict=True)), key=lambda r: -r[2])

    def odd_sizes(self) -> np.ndarray:
        """Return the indices of images whose size differs from that of the majority; empty if there is no majority."""
        (width, height, number), *_ = self.sizes()
        odd = (self.width != width) | (self.height != height)
        return np.flatnonzero(odd) if 2 * number > len(odd) else np.zeros(0, int)


def measure(faces: Prepared, progress: Progress | None = None) -> ImageStats:
    """Return the statistics of all images, decoding each once."""

    def row(i: int) -> tuple[int, int, float]:
        pixels = decode(faces.encoded(i))
        return pixels.shape[1], pixels.shape[0], float(np.std(np.asarray(Image.fromarray(pixels).convert("L"))))

    rows = []
    for values in parallel_map(row, range(len(faces.file))):
        rows.append(values)
        if progress:
            progress(len(rows), len(faces.file), "measuring the images")
    width, height, spread = zip(*rows, strict=True)
    return ImageStats(np.array(width), np.array(height), np.array(spread))
