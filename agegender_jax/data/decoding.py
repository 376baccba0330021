"""Decode image files of a fixed list of formats to upright RGB pixels, with Pillow."""

import contextlib
import io
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 64_000_000

_PNG_END = b"IEND\xaeB`\x82"  # the last chunk's name and checksum
_PNG_DEPTH = 24  # position in the file of the bits per channel; IHDR is the first chunk
_ORIENTATION = 0x0112  # EXIF 2.3, table 4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """The bytes are not a usable image; the text states the reason in a few words."""

    @property
    def reason(self) -> str:
        return str(self)


def decode(data: bytes) -> np.ndarray:
    """Return the first frame, rotated upright by EXIF, with transparency on white and 16 bits scaled to 8.

    Colour profiles are ignored.

    Args:
      data: a JPEG, PNG, WEBP, BMP or GIF file of at most 64 megapixels (judged from its header).

    Returns:
      uint8 RGB [H, W, 3].

    Raises:
      DecodeError: empty, cut short, damaged, too large or in another format.
    """
    if not data:
        raise DecodeError("empty file")
    if _is_cut_short(data):
        raise DecodeError("truncated")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DecodeError(f"{width}x{height} pixels, more than {MAX_PIXELS // 10**6} megapixels")
            with _refusing_truncated():
                image.load()
            if image.format == "PNG":
                _scale_colour_key(image, data[_PNG_DEPTH])
            return upright_rgb(image)
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS or MAX_PIXELS
        if limit < MAX_PIXELS:  # set by the program that uses this library
            raise DecodeError(f"more than {limit} pixels, PIL.Image.MAX_IMAGE_PIXELS") from error
        raise DecodeError(f"more than {MAX_PIXELS // 10**6} megapixels") from error
    except UnidentifiedImageError as error:
        raise DecodeError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except Exception as error:  # Pillow raises nearly anything on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise DecodeError("truncated" if "truncated" in reason else f"damaged: {reason}") from error


def upright_rgb(image: Image.Image) -> np.ndarray:
    """Return the pixels of a loaded image as `decode` does, uint8 RGB [H, W, 3]."""
    return np.array(_rgb(_upright(image)))


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return the largest centred square, scaled with an antialiasing bilinear filter.

    Args:
      image: uint8 RGB [H, W, 3].
      size: the new side in pixels.

    Returns:
      uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    return np.array(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))


_switching = threading.Lock()
_truncated = {"threads": 0, "allowed": False}


@contextlib.contextmanager
def _refusing_truncated() -> Iterator[None]:
    """Make Pillow refuse truncated files. Its switch is the whole process's, and is restored after the last thread."""
    with _switching:
        if not _truncated["threads"]:
            _truncated["allowed"] = ImageFile.LOAD_TRUNCATED_IMAGES
        _truncated["threads"] += 1
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        with _switching:
            _truncated["threads"] -= 1
            if not _truncated["threads"]:
                ImageFile.LOAD_TRUNCATED_IMAGES = bool(_truncated["allowed"])


def _is_cut_short(data: bytes) -> bool:
    """Return whether a PNG lacks its end or a WEBP is shorter than its header says; Pillow may miss either."""
    if data.startswith(b"\x89PNG"):
        return _PNG_END not in data
    return data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")


def _scale_colour_key(image: Image.Image, depth: int) -> None:
    """Scale the transparent colour of a loaded PNG to 8 bits; Pillow scales only the pixels.

    Of 16 bits, Pillow leaves the upper 8, so that colours which differ in the lower bits alone are transparent too.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and depth in (2, 4) and isinstance(key, int):
        most = 2**depth - 1
        image.info["transparency"] = (key & most) * (255 // most)
    elif image.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the pixels of an image with a damaged EXIF block are good
        orientation = 1
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey; convert() would clip instead of scale
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        image = Image.fromarray(np.where(wide == image.info.get("transparency"), np.uint8(255), grey))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
