"""Many small pictures with captions in one image; a hundred matplotlib axes would take seconds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from agegender_jax.report.figures import style

GAP, LINE, HEADING = 8, 15, 30  # pixels
GROUND = 255


@dataclasses.dataclass(frozen=True)
class Tile:
    """A picture, uint8 RGB [H, W, 3], with a line of text above and below; `wrong` highlights the upper one."""

    picture: np.ndarray
    above: str = ""
    below: str = ""
    wrong: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """Tiles side by side under a heading; None is an empty cell."""

    tiles: Sequence[Tile | None]
    heading: str = ""


def mosaic(rows: Sequence[Row], side: int) -> Figure:
    """Return a figure of all rows, each picture fitted into a square of `side` pixels and shown pixel for pixel."""
    lines = [(any(t and t.above for t in row.tiles), any(t and t.below for t in row.tiles)) for row in rows]
    heights = [HEADING * bool(row.heading) + side + LINE * sum(has) + GAP for row, has in zip(rows, lines, strict=True)]
    width = GAP + max(len(row.tiles) for row in rows) * (side + GAP)
    height = GAP + sum(heights)
    canvas = np.full((height, width, 3), GROUND, np.uint8)
    figure = Figure(figsize=(width / style.DPI, height / style.DPI))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    top = GAP
    for row, (above, _), tall in zip(rows, lines, heights, strict=True):
        if row.heading:
            axis.text(GAP, top + 0.45 * HEADING, row.heading, fontsize=9, weight="bold", va="center")
        first = top + HEADING * bool(row.heading) + LINE * above
        for i, tile in enumerate(row.tiles):
            left = GAP + i * (side + GAP)
            if tile is not None:
                canvas[first : first + side, left : left + side] = fitted(tile.picture, side)
                colour, weight = (style.WRONG, "bold") if tile.wrong else ("black", "normal")
                text = {"ha": "center", "fontsize": 7.5}
                axis.text(left + side / 2, first - 3, tile.above, va="bottom", color=colour, weight=weight, **text)
                axis.text(left + side / 2, first + side + 2, tile.below, va="top", color=style.GREY, **text)
        top += tall
    axis.imshow(canvas, extent=(0, width, height, 0), interpolation="none")
    return figure


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """Return the whole picture scaled into a square of `side` pixels and padded with white."""
    return np.array(ImageOps.pad(Image.fromarray(picture), (side, side), Image.Resampling.LANCZOS, color=(GROUND,) * 3))
