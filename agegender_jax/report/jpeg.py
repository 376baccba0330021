"""Pictures as JPEG, and as text for pages that embed them."""

import base64
import io

from PIL import Image


def encode(image: Image.Image, quality: int = 85) -> bytes:
    """Return an image as a JPEG of a quality from 0 to 95."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def text(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode()
