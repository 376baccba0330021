"""Pictures of any kind as upright RGB pixels."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any

import numpy as np
from PIL import Image

from agegender_jax import files
from agegender_jax.data import listing
from agegender_jax.data.decoding import DecodeError, decode, upright_rgb
from agegender_jax.errors import ConfigError

Readable = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Callable[[], bytes]
_Bytes = bytes | bytearray | memoryview


class Unusable(Exception):
    """The picture cannot be used; the text states the reason in a few words."""


def is_one(source: Any) -> bool:
    """Return whether `source` is one picture, or nothing that can be used, and not an iterable of pictures."""
    if _is_array(source):
        return getattr(source, "ndim", 0) != 4
    if isinstance(source, str | os.PathLike | _Bytes | Image.Image) or callable(source) or hasattr(source, "read"):
        return True
    return not isinstance(source, Iterable)


def name_of(source: Any, index: int) -> str:
    """Return the path of a file, or a name with the picture's number."""
    return str(source) if isinstance(source, str | os.PathLike) else f"picture {index}"


def pixels(source: Readable) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of a path, an open file, its bytes, a function that returns them, an image or pixels.

    Raises:
      Unusable: with the reason.
    """
    try:
        if isinstance(source, Image.Image):
            return _pixels_of(source)
        if isinstance(source, str | os.PathLike):
            return decode(_read(source))
        if _is_array(source):
            return _checked(source)
        return decode(bytes(source) if isinstance(source, _Bytes) else _content(source))
    except (DecodeError, listing.Unreadable) as error:
        raise Unusable(str(error)) from error


def _is_array(source: Any) -> bool:
    """Return whether NumPy can take the numbers of an array, which may be that of another library."""
    texts = getattr(getattr(source, "dtype", None), "kind", "u") in "OSTU"  # such as a column of paths
    return hasattr(source, "__array__") and not isinstance(source, Image.Image) and not texts


def _checked(source: Any) -> np.ndarray:
    try:
        image = np.asarray(source)
    except Exception as error:  # such as PyTorch's for a tensor on a GPU
        raise Unusable(f"an array must be uint8 RGB [H, W, 3]: {_line(error)}") from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise Unusable(f"an array must be uint8 RGB [H, W, 3], got {image.dtype} {list(image.shape)}")
    return image


def _content(source: Any) -> bytes:
    """Return the bytes of an open file, or of a function that returns them."""
    if not (hasattr(source, "read") or callable(source)):
        kind = "None" if source is None else f"an object of type {type(source).__name__}"
        raise Unusable(f"{kind} is not a picture")
    try:
        content = source.read(listing.MAX_BYTES + 1) if hasattr(source, "read") else source()
    except listing.Unreadable:
        raise
    except Exception as error:  # nearly anything, as the file or the function is the caller's
        raise Unusable(f"cannot be read: {_line(error)}") from error
    if not isinstance(content, _Bytes):
        raise Unusable(f"reading gave {type(content).__name__}, not bytes")
    if len(content) > listing.MAX_BYTES:
        raise Unusable(listing.TOO_LARGE)
    return bytes(content)


def _pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of a Pillow image, which may not be loaded yet."""
    try:
        image.load()
        return upright_rgb(image)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise Unusable(f"damaged: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def _read(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file that is not too large; links are followed."""
    try:
        real = files.resolve(files.existing(path, "picture"), "picture")
    except (OSError, RuntimeError, ValueError, ConfigError) as error:
        raise Unusable(f"cannot be read: {getattr(error, 'what', error)}") from error
    entry = listing.file_entry(real.parent, real.name)
    if entry.read is None:
        raise Unusable(entry.reason or "cannot be read")
    return entry.read()


def check_boxes(boxes: Sequence[Sequence[float]], height: int, width: int) -> None:
    """Raise Unusable if a box contains nothing of its picture, as when it belongs to a picture of another size."""
    for x, y, w, h in boxes:
        if not (0 < w and 0 < h and -w < x < width and -h < y < height):
            raise Unusable(f"the box {x:g},{y:g} {w:g}x{h:g} is outside of its {width}x{height} pixels")


def preview(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Return the picture with a longest side of at most `longest` pixels, and the factor."""
    factor = min(1.0, longest / max(image.shape[:2]))
    if factor == 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)), factor
