"""audit.html: one file that loads nothing from elsewhere, with contact sheets of what an audit has found."""

import base64
import io
import shlex
from collections.abc import Callable

import numpy as np
from PIL import Image

from agegender_jax.report.audit.summary import bounds, summary
from agegender_jax.report.formatting import interval, number
from agegender_jax.report.rendering import ENVIRONMENT

SHOWN = 250  # groups or files in a list, and the rest is in audit.json
PICTURES = 8  # of a group
SIDE, QUALITY = 112, 80
CAPTIONS = {
    "labels.png": "Labels of the usable images, stacked by gender.",
    "copies.png": "How far apart the ages of equal pictures are, and the hashes of near-duplicates.",
}
ALTS = {
    "labels.png": "Histograms of ages and of labelled race, stacked by gender.",
    "copies.png": "Histograms of age differences of equal pictures and of hash distances of near-duplicates.",
}


def page(found: dict, figures: dict[str, bytes], picture: Callable[[str], np.ndarray]) -> str:
    """The page of an audit's dict.

    Args:
      figures: PNG bytes by name, as `figures.draw` gives them.
      picture: uint8 RGB [H, W, 3] of a usable file.
    """

    def thumbnail(file: str) -> str:
        return "data:image/jpeg;base64," + _base64(_jpeg(picture(file)))

    images = {
        name: {"caption": CAPTIONS[name], "alt": ALTS[name], "uri": "data:image/png;base64," + _base64(png)}
        for name, png in figures.items()
    }
    return ENVIRONMENT.get_template("audit.html.jinja").render(
        a=found,
        command=shlex.join(found["command"]),
        summary=summary(found),
        ceilings=_ceilings(list(found["label_noise"].values())),
        torn=_torn(found["leakage"]),
        cells=[list(cell.values()) for cell in found["labels"]["cells"]],
        odd=(
            ("Unusable files", "reason", [list(row.values()) for row in found["unusable"]]),
            ("Unusual names that carry their label", "remark", [list(row.values()) for row in found["remarks"]]),
        ),
        images=images,
        thumbnail=thumbnail,
        shown=SHOWN,
        pictures=PICTURES,
    )


def _ceilings(noise: list[dict]) -> list[list[str]]:
    """Rows of the table of what the labels allow, a column for each kind of pairs."""
    counts = [noise_of["gender_accuracy"] for noise_of in noise]
    rows = [["pictures, pairs", *(f"{of['pictures']}, {of['pairs']}" for of in counts)]]
    for score, title in (("age_accuracy", "age bucket differs"), ("gender_accuracy", "gender differs")):
        told = (f"{number(of[score]['disagreement'])} {interval(of[score]['ci95'])}" for of in noise)
        rows.append([title, *(text.strip() for text in told)])
    for score, title, bound in (
        ("age_accuracy", "best age accuracy", "ceiling"),
        ("gender_accuracy", "best gender accuracy", "ceiling"),
        ("aabd", "least AABD (buckets)", "floor"),
        ("age_mae", "least mean error (years)", "floor"),
    ):
        rows.append([title, *(bounds(of[score], bound) for of in noise)])
    return rows


def _torn(leakage: dict) -> list[list]:
    """Rows of the table of pairs in different splits."""
    split = leakage["split"]
    kept = [(f"by content, seed {split['split_seed']}", split)]
    kept += [(f"{run['workdir']}: its splits.csv", run) for run in leakage["runs"]]
    rows = [
        [name, ", ".join(f"{size:,}" for size in of["sizes"].values()), *of["across"].values()] for name, of in kept
    ]
    exact, both = split["random"]["exact"]["pairs"], split["random"]["all"]["pairs"]
    return [*rows, ["single files at random", "", f"{exact:.1f}", f"{both - exact:.1f}"]]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _jpeg(pixels: np.ndarray) -> bytes:
    """A small copy, at most SIDE pixels a side."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
