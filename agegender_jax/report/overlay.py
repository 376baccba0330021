"""Maps over the pictures that they explain, as PNG.

Relevance is shown as a share of its 99th percentile in the map, from red (speaks for the class) to blue (against it),
or by brightness where a map has no sign; a mask from its lowest to its highest value.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from agegender_jax import metrics
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.report import formatting
from agegender_jax.report.figures.style import png

CLASSES = {"age": AGE_BUCKETS, "gender": GENDERS}
SIDE = 2.0  # inches of a picture
GRID_FACES = 6
FLAT = 1e-4  # a mask that varies less is constant, and not shown
SCALES = {
    "signed": ("RdBu_r", -1, "against the class           relevance           for it"),
    "positive": ("inferno", 0, "relevance"),
    "mask": ("cividis", 0, "mask, lowest to highest"),
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture uint8 [H, W, 3], with a map [H, W] of one of SCALES over it in grey, or none."""

    picture: np.ndarray
    title: str
    values: np.ndarray | None = None
    scale: str = "signed"


def overlays(picture: np.ndarray, drawn, i: int, answer: dict[str, dict]) -> bytes:
    """PNG of all maps of picture i: a row for each head's decision, and one for each attention module.

    Args:
      picture: uint8 RGB [H, W, 3]. drawn: explain.maps.Maps.
      answer: head -> its "class", "probability", and where measured "areas" by map.
    """
    rows = []
    for head, told in answer.items():
        areas = told.get("areas", {})
        title = f"{head}: {told['class']}, p = {told['probability']:.2f}"
        rows.append([Panel(picture, title + _areas(areas.get("random"), "random map: "))])
        for method, maps in drawn.attributions[head].items():
            rows[-1].append(
                Panel(picture, formatting.map_name(method) + _areas(areas.get(method)), maps[i], scale(method))
            )
    for module in drawn.attention:
        key = f"attention_{module.name}"
        title = f"{module.name}, mean mask\n{_range(module.mean[i])}"
        title += "".join(_areas(t["areas"][key], f"{head}: ") for head, t in answer.items() if "areas" in t)
        rows.append([Panel(picture, title, module.mean[i], "mask")])
        for index, channel in zip(module.indices[i], module.channels[i], strict=True):
            rows[-1].append(Panel(picture, f"channel {index}\n{_range(channel)}", channel, "mask"))
    return png(draw(rows))


def explanation_grid(images: np.ndarray, drawn, age: np.ndarray, gender: np.ndarray) -> bytes:
    """PNG of GRID_FACES pictures at even distances, a row each, the maps of both heads' decisions in columns.

    Args:
      images: uint8 RGB [N, H, W, 3]. drawn: explain.maps.Maps of them.
      age: int [N, 2]; gender: int [N]: the labels.
    """
    rows = []
    for i in np.unique(np.linspace(0, len(images) - 1, GRID_FACES, dtype=int)):
        rows.append([Panel(images[i], f"label:\n{GENDERS[gender[i]]} {metrics.range_name(*age[i])}")])
        for head, attributions in drawn.attributions.items():
            chosen = drawn.targets[head][i]
            answer = f"{head}: {CLASSES[head][chosen]}, p = {getattr(drawn.probs, head)[i, chosen]:.2f}"
            for method, maps in attributions.items():
                rows[-1].append(Panel(images[i], f"{formatting.map_name(method)}\n{answer}", maps[i], scale(method)))
    return png(draw(rows))


def scale(method: str) -> str:
    return "positive" if method == "grad_cam" else "signed"


def draw(rows: Sequence[Sequence[Panel]]) -> Figure:
    """Panels in rows, and below them the colour bars that they need."""
    columns = max(map(len, rows))
    lines = max(panel.title.count("\n") + 1 for row in rows for panel in row)
    height = len(rows) * (SIDE + 0.16 * lines) + 0.8
    figure = Figure(figsize=(max(columns * (SIDE + 0.1), 6), height), layout="constrained")
    body, foot = figure.subfigures(2, 1, height_ratios=(height - 0.8, 0.8))
    for row, axes in zip(rows, body.subplots(len(rows), columns, squeeze=False), strict=True):
        for axis in axes:
            axis.axis("off")
        for axis, panel in zip(axes, row, strict=False):
            _show(axis, panel)
    used = [key for key in SCALES if any(p.values is not None and p.scale == key for row in rows for p in row)]
    for axis, key in zip(foot.subplots(1, len(used), squeeze=False)[0], used, strict=True):
        colours, low, label = SCALES[key]
        axis.axis("off")
        ticks = (low, (low + 1) / 2, 1)
        bar = foot.colorbar(
            ScalarMappable(Normalize(low, 1), colours), ax=axis, orientation="horizontal", fraction=0.5, ticks=ticks
        )
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _show(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title, fontsize=8)
    if panel.values is None:
        axis.imshow(panel.picture)
        return
    axis.imshow(panel.picture @ np.array([0.299, 0.587, 0.114]), cmap="gray", vmin=0, vmax=255)
    colours, low, _ = SCALES[panel.scale]
    values = np.asarray(panel.values, np.float64)
    if panel.scale == "mask":
        shown, cover = (values - values.min()) / max(np.ptp(values), FLAT), 0.6 * (np.ptp(values) > FLAT)
    else:
        shown = np.clip(values / max(np.percentile(np.abs(values), 99), 1e-12), -1, 1)
        cover = 0.85 * np.sqrt(np.abs(shown))
    axis.imshow(shown, cmap=colours, vmin=low, vmax=1, alpha=cover, interpolation="nearest")


def _areas(areas: dict | None, before: str = "") -> str:
    return f"\n{before}del. {areas['deletion']:.2f}, ins. {areas['insertion']:.2f}" if areas else ""


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if np.ptp(values) > FLAT else f"constant {values.mean():.2f}"
