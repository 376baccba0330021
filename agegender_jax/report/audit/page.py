"""audit.html: a self-contained file with contact sheets of the findings."""

import base64
import io
import shlex
from collections.abc import Callable

import numpy as np
from PIL import Image

from agegender_jax.report.audit.summary import bounds, summary
from agegender_jax.report.formatting import interval, number
from agegender_jax.report.jinja_environment import ENVIRONMENT

SHOWN = 250  # groups or files per list; the rest is only in audit.json
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


def page(audit: dict, figures: dict[str, bytes], picture: Callable[[str], np.ndarray]) -> str:
    """Return the page of an audit as HTML.

    Args:
      audit: value of audit.json.
      figures: PNG bytes by file name, from `figures.draw`.
      picture: returns uint8 RGB [H, W, 3] of a usable file.
    """

    def thumbnail(file: str) -> str:
        return "data:image/jpeg;base64," + _base64(_jpeg(picture(file)))

    images = {
        name: {"caption": CAPTIONS[name], "alt": ALTS[name], "uri": "data:image/png;base64," + _base64(png)}
        for name, png in figures.items()
    }
    return ENVIRONMENT.get_template("audit.html.jinja").render(
        a=audit,
        command=shlex.join(audit["command"]),
        summary=summary(audit),
        ceilings=_ceilings(list(audit["label_noise"].values())),
        torn=_torn(audit["leakage"]),
        cells=[list(cell.values()) for cell in audit["labels"]["cells"]],
        odd=(
            ("Unusable files", "reason", [list(row.values()) for row in audit["unusable"]]),
            ("Malformed names with a valid label", "remark", [list(row.values()) for row in audit["remarks"]]),
        ),
        images=images,
        thumbnail=thumbnail,
        shown=SHOWN,
        pictures=PICTURES,
    )


def _ceilings(noise: list[dict]) -> list[list[str]]:
    """Return the rows of the table of bounds, with a column for each kind of pairs."""
    counts = [noise_of["gender_accuracy"] for noise_of in noise]
    rows = [["pictures, pairs", *(f"{of['pictures']}, {of['pairs']}" for of in counts)]]
    for score, title in (("age_accuracy", "age bucket differs"), ("gender_accuracy", "gender differs")):
        cells = (f"{number(of[score]['disagreement'])} {interval(of[score]['ci95'])}" for of in noise)
        rows.append([title, *(text.strip() for text in cells)])
    for score, title, bound in (
        ("age_accuracy", "best age accuracy", "ceiling"),
        ("gender_accuracy", "best gender accuracy", "ceiling"),
        ("aabd", "lowest AABD (buckets)", "floor"),
        ("age_mae", "lowest mean error (years)", "floor"),
    ):
        rows.append([title, *(bounds(of[score], bound) for of in noise)])
    return rows


def _torn(leakage: dict) -> list[list]:
    """Return the rows of the table of pairs in different splits."""
    split = leakage["split"]
    splits = [(f"by content, seed {split['split_seed']}", split)]
    splits += [(f"{run['workdir']}: its splits.csv", run) for run in leakage["runs"]]
    rows = [
        [name, ", ".join(f"{size:,}" for size in of["sizes"].values()), *of["across"].values()] for name, of in splits
    ]
    exact, both = split["random"]["exact"]["pairs"], split["random"]["all"]["pairs"]
    return [*rows, ["single files at random", "", f"{exact:.1f}", f"{both - exact:.1f}"]]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _jpeg(pixels: np.ndarray) -> bytes:
    """Return a JPEG of at most SIDE x SIDE pixels."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
