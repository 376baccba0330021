"""Colours, sizes and parts that the figures share."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
WRONG = "#a84300"  # of small letters: VERMILION has too little contrast to white
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # Okabe and Ito 2008
OF_GENDER = (BLUE, ORANGE)  # in the order of labels.GENDERS
GREY = "#595959"
DPI = 110


def new(width: float, height: float) -> Figure:
    """An empty figure of so many inches that arranges its axes itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return figure


def grid(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def dots(axis: Axes, place: np.ndarray, values: Sequence, hollow: Sequence[bool], colour: str, vertical: bool) -> None:
    """Values with their intervals: [(value, (low, high)) or (value, None)], hollow ones less certain."""
    for at, (value, interval), empty in zip(place, values, hollow, strict=True):
        if interval is not None:
            (axis.vlines if vertical else axis.hlines)(at, *interval, color=colour, linewidth=1.6, alpha=0.8)
        point = (at, value) if vertical else (value, at)
        axis.plot(*point, "o", markersize=6, color=colour, markerfacecolor="white" if empty else colour, zorder=3)


def png(figure: Figure) -> bytes:
    """The bytes of a file, the same for the same figure."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once, where savefig draws twice
    out = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).save(out, "png", dpi=(DPI, DPI))
    return out.getvalue()
