"""Pictures of predictions: a copy of a photo with boxes, and a page of all faces, the least confident first."""

import contextlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agegender_jax import files
from agegender_jax.prediction.face import Face, Picture
from agegender_jax.report import jpeg
from agegender_jax.report.jinja_environment import ENVIRONMENT

MOST = 5000  # faces of the page: about 30 MB
SIDE = 96  # pixels of a thumbnail
_COLOURS = {"ok": "#1b7837", "unsure": "#b35806"}


def full_label(index: int, face: Face) -> str:
    """Return the text above the box of a face: age, its interval, and gender."""
    low, high = face.age_interval
    return f"{face.age:.0f} ({low}-{high}) {face.gender} {face.confidence:.0%}"


def annotated(picture: Picture, label: Callable[[int, Face], str] = full_label, least: int = 11) -> bytes:
    """Return a JPEG of a picture's preview with the box and the prediction of each face.

    Args:
      label: returns the text above the box of the face with this index.
      least: size of the smallest letters in pixels.
    """
    image = Image.fromarray(picture.preview)
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    for i, face in enumerate(picture.faces):
        x, y, width, height = (value * picture.scale for value in face.box)
        colour = _COLOURS[face.status]
        draw.rectangle((x, y, x + width, y + height), outline=colour, width=line)
        text = label(i, face)
        font = ImageFont.load_default(max(least, min(28, round(width / 9))))
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        corner = (max(0, min(x, image.width - right)), max(0, y - bottom - 4))
        draw.rectangle((corner[0], corner[1], corner[0] + right + 4, corner[1] + bottom + 4), fill=colour)
        draw.text((corner[0] + 2, corner[1] + 1), text, font=font, fill="white")
    return jpeg.encode(image, quality=90)


def thumbnails(picture: Picture) -> bytes:
    """Return a line of JSON for each face: file, index and a JPEG of the chip, in base64.

    It begins with a newline, because an interrupted call may have left an incomplete line.
    """
    return b"".join(
        b"\n" + files.to_json({"file": picture.name, "face": i, "jpeg": _thumbnail(face.chip)}).encode()
        for i, face in enumerate(picture.faces)
    )


def write(path: Path, rows: Iterable[dict[str, Any]], thumbnails: Path, summary: dict[str, Any]) -> None:
    """Write the page: rows of predictions.jsonl with their thumbnails, the least confident faces first.

    Pictures without a prediction come last. Only the first MOST of the faces, and of those pictures, are shown.
    """
    without: list[dict[str, Any]] = []

    def faces() -> Iterator[dict[str, Any]]:
        for row in rows:
            if row["gender"] is not None:
                yield row
            elif len(without) < MOST:
                without.append(row)

    shown = heapq.nsmallest(MOST, faces(), key=_confidence)
    keys = {(row["file"], row["face"]) for row in shown}
    chips = {key: item["jpeg"] for item in read_thumbnails(thumbnails) if (key := (item["file"], item["face"])) in keys}
    statuses = [status for status, count in summary["statuses"].items() if count]
    omitted = summary["faces"] - len(shown)
    others = sum(summary["statuses"].values()) - summary["faces"] - len(without)
    page = ENVIRONMENT.get_template("gallery.html.jinja").render(
        rows=[*shown, *without], chips=chips, statuses=statuses, summary=summary, omitted=omitted, others=others
    )
    files.replace(path, page)


def read_thumbnails(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `thumbnails` in a file; the last one of a face is valid."""
    if path.exists():
        with open(path, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # empty, or of an interrupted call
                    yield json.loads(line)


def _confidence(row: dict[str, Any]) -> float:
    """Return the probability of the predicted gender."""
    return max(row["p_female"], 1 - row["p_female"])


def _thumbnail(chip: np.ndarray) -> str:
    image = Image.fromarray(chip)
    if max(image.size) > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return jpeg.text(jpeg.encode(image))
