"""Pictures of any kind as upright RGB pixels."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agegender_jax.data import listing
from agegender_jax.data.decoding import DecodeError, decode, upright_rgb

Readable = str | Path | bytes | Image.Image | np.ndarray | Callable[[], bytes]


class Unusable(Exception):
    """The picture cannot be used; the text states the reason in a few words."""


def is_one(source: Any) -> bool:
    """Return whether `source` is one picture and not an iterable of them."""
    return isinstance(source, str | Path | bytes | bytearray | Image.Image | np.ndarray) or callable(source)


def name_of(source: Any, index: int) -> str:
    """Return the path of a file, or a name with the picture's number."""
    return str(source) if isinstance(source, str | Path) else f"picture {index}"


def pixels(source: Readable) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of a path, a file's bytes, a function that returns them, a Pillow image or pixels.

    Raises:
      Unusable: with the reason.
    """
    try:
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
                raise Unusable(f"an array must be uint8 RGB [H, W, 3], got {source.dtype} {list(source.shape)}")
            return source
        if isinstance(source, Image.Image):
            return _pixels_of(source)
        if isinstance(source, str | Path):
            return decode(_read(Path(source)))
        return decode(bytes(source) if isinstance(source, bytes | bytearray) else source())
    except (DecodeError, listing.Unreadable) as error:
        raise Unusable(str(error)) from error


def _pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of a Pillow image, which may not be loaded yet."""
    try:
        image.load()
        return upright_rgb(image)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise Unusable(f"damaged: {(str(error) or type(error).__name__).splitlines()[0][:100]}") from error


def _read(path: Path) -> bytes:
    """Return the bytes of a regular file that is not too large; links are followed."""
    try:
        real = path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"cannot be read: {error}") from error
    entry = listing.file_entry(real.parent, real.name)
    if entry.read is None:
        raise Unusable(entry.reason or "cannot be read")
    return entry.read()


def preview(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Return the picture with a longest side of at most `longest` pixels, and the factor."""
    factor = min(1.0, longest / max(image.shape[:2]))
    if factor == 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)), factor


def numbered(sources: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    """Yield (name, source) of each."""
    for i, source in enumerate(sources):
        yield name_of(source, i), source
