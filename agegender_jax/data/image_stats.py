"""What the pictures of a prepared source look like, as far as an audit asks: size, and whether anything is on them."""

import concurrent.futures
import dataclasses
import os

import numpy as np
from PIL import Image

from agegender_jax.data.cache import Progress
from agegender_jax.data.decoding import decode
from agegender_jax.data.prepared import Prepared

TINY = 32  # pixels of the shorter side: the smallest image that can be trained on
BLANK = 8.0  # standard deviation of grey levels, 0 to 255


@dataclasses.dataclass(frozen=True)
class Looks:
    """Of each decoded picture: width, height in pixels, int [N], and the standard deviation of its grey, float [N]."""

    width: np.ndarray
    height: np.ndarray
    spread: np.ndarray

    def tiny(self) -> np.ndarray:
        """Files whose shorter side is below TINY pixels."""
        return np.flatnonzero(np.minimum(self.width, self.height) < TINY)

    def blank(self) -> np.ndarray:
        """Files whose grey hardly varies, the blankest first."""
        found = np.flatnonzero(self.spread < BLANK)
        return found[np.argsort(self.spread[found], kind="stable")]

    def sizes(self) -> list[tuple[int, int, int]]:
        """Return (width, height, number of files), most frequent first."""
        sizes, counts = np.unique(np.stack([self.width, self.height], 1), axis=0, return_counts=True)
        return sorted(((*s, n) for s, n in zip(sizes.tolist(), counts.tolist(), strict=True)), key=lambda r: -r[2])

    def odd_sizes(self) -> np.ndarray:
        """Files of another size than the one that more than half of all have; none where no size is so common."""
        (width, height, number), *_ = self.sizes()
        odd = (self.width != width) | (self.height != height)
        return np.flatnonzero(odd) if 2 * number > len(odd) else np.zeros(0, int)


def look(faces: Prepared, progress: Progress | None = None) -> Looks:
    """Decodes every picture once and measures it."""
    count, found = len(faces.file), []

    def measure(i: int) -> tuple[int, int, float]:
        pixels = decode(faces.encoded(i))
        return pixels.shape[1], pixels.shape[0], float(np.std(np.asarray(Image.fromarray(pixels).convert("L"))))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(measure, range(count)):
            found.append(row)
            if progress:
                progress(len(found), count, "looking at the pictures")
    width, height, spread = zip(*found, strict=True)
    return Looks(np.array(width), np.array(height), np.array(spread))
