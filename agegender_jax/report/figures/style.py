"""Colours, sizes and elements shared by the figures."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
WRONG = "#a84300"  # for small letters: VERMILION has too little contrast against white
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # Okabe and Ito 2008
OF_GENDER = (BLUE, ORANGE)  # in the order of labels.GENDERS
GREY = "#595959"
DPI = 110


def new(width: float, height: float) -> Figure:
    """Return an empty figure with constrained layout; sizes in inches."""
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return figure


def grid(axis: Axes) -> None:
    """Add light grid lines and remove the upper and right spines."""
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def dots(
    axis: Axes, positions: np.ndarray, values: Sequence, hollow: Sequence[bool], colour: str, vertical: bool
) -> None:
    """Draw values with their intervals: [(value, (low, high)) or (value, None)], hollow where less certain."""
    for at, (value, interval), empty in zip(positions, values, hollow, strict=True):
        if interval is not None:
            (axis.vlines if vertical else axis.hlines)(at, *interval, color=colour, linewidth=1.6, alpha=0.8)
        point = (at, value) if vertical else (value, at)
        axis.plot(*point, "o", markersize=6, color=colour, markerfacecolor="white" if empty else colour, zorder=3)


def png(figure: Figure) -> bytes:
    """Return the bytes of a PNG, identical for identical figures."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # savefig would draw twice
    out = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).save(out, "png", dpi=(DPI, DPI))
    return out.getvalue()
