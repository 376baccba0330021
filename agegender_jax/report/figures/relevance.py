"""The relevance that several nets give to the pixels of the same pictures, with the scores of their maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agegender_jax import metrics, subsets
from agegender_jax.labels import GENDERS
from agegender_jax.report import formatting, overlay
from agegender_jax.report.figures import style
from agegender_jax.report.figures.mosaic import GAP, GROUND, LINE, fitted
from agegender_jax.report.relevance import NetRelevance, method_of

FACES = 6
SIDE, MARGIN = 150, 190  # pixels: a picture, and the text on the left
TOP, FOOT = 34, 116
SMALL = 7.5
TITLES = {
    "age": "Age: which pixels support the predicted group",
    "gender": "Gender: which pixels support the predicted one",
}


def relevance_grid(nets: Mapping[str, NetRelevance], head: str, age: np.ndarray, gender: np.ndarray) -> bytes:
    """Return a PNG of `draw`."""
    return style.png(draw(nets, head, age, gender))


def draw(nets: Mapping[str, NetRelevance], head: str, age: np.ndarray, gender: np.ndarray) -> Figure:
    """Return FACES pictures by age, and below them one row per net: its relevance of a head.

    The composite rules are drawn where a net has them, else the epsilon rule.

    Args:
      nets: by name.
      age: int [N, 2], first and last bucket that count as correct.
      gender: int [N].
    """
    chosen = np.lexsort((gender, age[:, 0]))[subsets.evenly_spaced(len(gender), FACES)]
    pitch = SIDE + LINE + GAP
    width, height = MARGIN + FACES * (SIDE + GAP), TOP + (1 + len(nets)) * pitch + FOOT
    canvas = np.full((height, width, 3), GROUND, np.uint8)
    figure = Figure(figsize=(width / style.DPI, height / style.DPI))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    axis.text(GAP, TOP / 2, TITLES[head], fontsize=11, weight="bold", va="center")

    def place(row: int, column: int, picture: np.ndarray, text: str, wrong: bool = False) -> None:
        top, left = TOP + row * pitch, MARGIN + column * (SIDE + GAP)
        canvas[top : top + SIDE, left : left + SIDE] = fitted(picture, SIDE)
        colour, weight = (style.WRONG, "bold") if wrong else (style.GREY, "normal")
        options = {"ha": "center", "va": "top", "fontsize": SMALL, "color": colour, "weight": weight}
        axis.text(left + SIDE / 2, top + SIDE + 2, text, **options)

    largest = max((net.images for net in nets.values()), key=lambda images: images.shape[1])
    _margin(axis, 0, "pictures", ["label below each"])
    for column, i in enumerate(chosen):
        place(0, column, largest[i], f"{GENDERS[gender[i]]} {metrics.range_name(*age[i])}")
    for row, (name, net) in enumerate(nets.items(), 1):
        method = method_of(net.scores[head]["maps"])
        _margin(axis, row * pitch, name, _scores(method, net.scores[head]["maps"]))
        targets = net.maps.targets[head]
        for column, i in enumerate(chosen):
            panel = overlay.Panel(net.images[i], "", net.maps.attributions[head][method][i])
            right = age[i, 0] <= targets[i] <= age[i, 1] if head == "age" else targets[i] == gender[i]
            predicted, probability = net.maps.prediction(head, i)
            place(row, column, overlay.blended(panel), f"{predicted}, p = {probability:.2f}", not right)
    axis.imshow(canvas, extent=(0, width, height, 0), interpolation="none")
    localised = any("localisation" in row for net in nets.values() for row in net.scores[head]["maps"].values())
    _legend(figure, axis, width, height, len(gender), localised)
    return figure


def _margin(axis: Axes, top: float, name: str, lines: Sequence[str]) -> None:
    """Write the name of a row and lines of text left of it."""
    top += TOP + 8
    axis.text(GAP, top, name, fontsize=9.5, weight="bold", va="top")
    for number, line in enumerate(lines):
        axis.text(GAP, top + 20 + number * LINE, line, fontsize=SMALL, color=style.GREY, va="top")


def _scores(method: str, maps: Mapping[str, Any]) -> list[str]:
    """Return the lines about a net's map: its rules, and its scores beside those of maps that know nothing."""
    row, lines = maps[method], [formatting.map_name(method)]
    for kind in ("deletion", "insertion"):
        difference = row["minus_random"][kind]
        star = " *" if formatting.excludes_zero(difference["ci95"]) else ""
        lines += [f"{kind} {row[kind]['mean']:.3f}{star}", f"   random map {maps['random'][kind]['mean']:.3f}"]
    if "localisation" in row and row["localisation"]["share"]["mean"] is not None:
        cues = row["localisation"]
        star = " *" if formatting.excludes_zero(cues["minus_area"]["ci95"]) else ""
        lines += [
            f"in true cues {100 * cues['share']['mean']:.0f} %{star}",
            f"   their area {100 * cues['area']:.0f} %",
        ]
    return lines


def _legend(figure: Figure, axis: Axes, width: int, height: int, count: int, localised: bool) -> None:
    """Draw the colour bar, and say below the pictures what the numbers are."""
    colours, low, _ = overlay.SCALES["signed"]
    top = height - FOOT
    bar = figure.add_axes((4 * GAP / width, 1 - (top + 40) / height, (MARGIN - 8 * GAP) / width, 12 / height))
    bar.imshow(np.linspace(low, 1, 256)[None], cmap=matplotlib.colormaps[colours], aspect="auto", extent=(low, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([-1, 0, 1], ["against", "0", "for"], fontsize=SMALL)
    axis.text(GAP, top + 22, "relevance", fontsize=SMALL, va="bottom")
    text = (
        "Colour: relevance of a pixel for (red) or against (blue) the prediction below the picture. Each map is scaled "
        "by the 99th percentile of its size.\nBold orange: the prediction is wrong. p: its probability.\n"
        f"Deletion, insertion: mean probability of the predicted class over {count} pictures while cells are removed "
        "from the picture, or added to a blurred one,\nthe most relevant first. Low deletion and high insertion are "
        "good. *: the 95 % interval of the difference to the number below excludes 0."
    )
    if localised:
        text += "\nTrue cues: share of the positive relevance in the regions of a synthetic face that show the trait."
    axis.text(MARGIN, top + 8, text, fontsize=SMALL, va="top", linespacing=1.5)
