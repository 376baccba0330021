"""audit.html: one file that loads nothing from elsewhere, with contact sheets of what an audit has found."""

import base64
import io
import shlex
from collections.abc import Callable

import numpy as np
from PIL import Image

from agegender_jax.report.audit.summary import bounds, summary
from agegender_jax.report.page import ENVIRONMENT

SHOWN = 60  # groups or files in a list, and the rest is in audit.json
PICTURES = 8  # of a group
SIDE, QUALITY = 112, 80
CAPTIONS = {
    "labels.png": "Labels of the usable images, stacked by gender.",
    "copies.png": "How far apart the ages of equal pictures are, and the hashes of near-duplicates.",
}


def page(found: dict, figures: dict[str, bytes], picture: Callable[[str], np.ndarray]) -> str:
    """The page of an audit's dict.

    Args:
      figures: PNG bytes by name, as `figures.draw` gives them.
      picture: uint8 RGB [H, W, 3] of a usable file.
    """

    def thumbnail(file: str) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(_jpeg(picture(file))).decode()

    images = [
        {"caption": CAPTIONS[name], "uri": "data:image/png;base64," + base64.b64encode(png).decode()}
        for name, png in figures.items()
    ]
    return ENVIRONMENT.get_template("audit.html.jinja").render(
        a=found,
        command=shlex.join(found["command"]),
        summary=summary(found),
        bounds=bounds,
        images=images,
        thumbnail=thumbnail,
        shown=SHOWN,
        pictures=PICTURES,
    )


def _jpeg(pixels: np.ndarray) -> bytes:
    """A small copy, at most SIDE pixels a side."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
