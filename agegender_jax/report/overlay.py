"""Overlays of maps on the pictures that they explain, as PNG.

Relevance is scaled by the 99th percentile of its magnitude in the map, from red (for the class) to blue (against it),
or by brightness if the map has no sign. A mask is scaled from its lowest to its highest value.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from agegender_jax.image_constants import LUMA
from agegender_jax.report import formatting
from agegender_jax.report.figures.style import png
from agegender_jax.subsets import evenly_spaced

SIDE = 2.0  # inches of a picture
GRID_FACES = 6
GRID_PATCHES = 3
FLAT = 1e-4  # a mask that varies less counts as constant and is not drawn
SCALES = {
    "signed": ("RdBu_r", -1, "against the class           relevance           for it"),
    "positive": ("inferno", 0, "relevance"),
    "mask": ("cividis", 0, "mask, lowest to highest"),
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture, uint8 [H, W, 3], or its grey version under a map [H, W] on one of SCALES."""

    picture: np.ndarray
    title: str
    values: np.ndarray | None = None
    scale: str = "signed"


def overlays(picture: np.ndarray, maps, i: int, predictions: dict[str, dict]) -> bytes:
    """Return a PNG of all maps of picture i: one row per head and one per attention module.

    Args:
      picture: uint8 RGB [H, W, 3].
      maps: explain.maps.Maps.
      predictions: head -> {"class", "probability", optionally "areas" by map}.
    """
    rows = []
    for head, prediction in predictions.items():
        areas = prediction.get("areas", {})
        title = f"{head}: {prediction['class']}, p = {prediction['probability']:.2f}"
        rows.append([Panel(picture, title + _areas(areas.get("random"), "random map: "))])
        for method, values in maps.attributions[head].items():
            title = formatting.map_name(method) + _areas(areas.get(method))
            rows[-1].append(Panel(picture, title, values[i], scale(method)))
    for module in maps.attention:
        key = f"attention_{module.name}"
        title = f"{module.name}, mean mask\n{_range(module.mean[i])}"
        title += "".join(_areas(p["areas"][key], f"{head}: ") for head, p in predictions.items() if "areas" in p)
        rows.append([Panel(picture, title, module.mean[i], "mask")])
        for index, channel in zip(module.indices[i], module.channels[i], strict=True):
            rows[-1].append(Panel(picture, f"channel {index}\n{_range(channel)}", channel, "mask"))
    return png(draw(rows))


def explanation_grid(images: np.ndarray, maps, labels: Sequence[str]) -> bytes:
    """Return a PNG of GRID_FACES evenly spaced pictures, one per row, with the maps of both heads in columns.

    Args:
      images: uint8 RGB [N, H, W, 3].
      maps: explain.maps.Maps of them.
      labels: [N], one for each picture.
    """
    rows = []
    for i in evenly_spaced(len(images), GRID_FACES):
        rows.append([Panel(images[i], f"label:\n{labels[i]}")])
        for head, attributions in maps.attributions.items():
            name, probability = maps.prediction(head, i)
            prediction = f"{head}: {name}, p = {probability:.2f}"
            for method, values in attributions.items():
                title = f"{formatting.map_name(method)}\n{prediction}"
                rows[-1].append(Panel(images[i], title, values[i], scale(method)))
    return png(draw(rows))


def patches_grid(images: np.ndarray, attended, labels: Sequence[str]) -> bytes:
    """Return a PNG of GRID_FACES evenly spaced pictures, one per row, with their weights and their first patches.

    Args:
      images: uint8 RGB [N, H, W, 3].
      attended: explain.patches.Attended of them.
      labels: [N], one for each picture.
    """
    rows = []
    for i in evenly_spaced(len(images), GRID_FACES):
        weights = attended.weights[i]
        cells = weights.reshape(2 * [int(len(weights) ** 0.5)])
        nearest = [np.arange(n) * len(cells) // n for n in images.shape[1:3]]
        rows.append([Panel(images[i], labels[i]), Panel(images[i], "weights", cells[np.ix_(*nearest)], "mask")])
        for place in np.argsort(-weights)[:GRID_PATCHES]:
            rows[-1].append(Panel(attended.pixels[i, place], f"weight {weights[place]:.2f}"))
    return png(draw(rows))


def scale(method: str) -> str:
    """Return the colour scale of a method, one of SCALES."""
    return "positive" if method == "grad_cam" else "signed"


def draw(rows: Sequence[Sequence[Panel]]) -> Figure:
    """Return a figure of panels in rows, with the colour bars that they need below."""
    columns = max(map(len, rows))
    lines = max(panel.title.count("\n") + 1 for row in rows for panel in row)
    height = len(rows) * (SIDE + 0.16 * lines) + 0.8
    figure = Figure(figsize=(max(columns * (SIDE + 0.1), 6), height), layout="constrained")
    body, foot = figure.subfigures(2, 1, height_ratios=(height - 0.8, 0.8))  # type: ignore[misc]
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


def blended(panel: Panel) -> np.ndarray:
    """Return the pixels of a panel with a map, uint8 RGB [H, W, 3]."""
    name, low, _ = SCALES[panel.scale]
    scaled, cover = _scaled(panel)
    colours = colormaps[name](Normalize(low, 1)(scaled))[..., :3]
    grey = (panel.picture @ LUMA / 255)[..., None]
    return np.round(255 * (grey + cover[..., None] * (colours - grey))).astype(np.uint8)


def _show(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title, fontsize=8)
    if panel.values is None:
        axis.imshow(panel.picture)
        return
    axis.imshow(panel.picture @ LUMA, cmap="gray", vmin=0, vmax=255)
    colours, low, _ = SCALES[panel.scale]
    scaled, cover = _scaled(panel)
    axis.imshow(scaled, cmap=colours, vmin=low, vmax=1, alpha=cover, interpolation="nearest")


def _scaled(panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Return the values on the panel's scale, and their opacity over the picture, 0 to 1; each [H, W]."""
    values = np.asarray(panel.values, np.float64)
    if panel.scale == "mask":
        cover = np.full(values.shape, 0.6 * (np.ptp(values) > FLAT))
        return (values - values.min()) / max(np.ptp(values), FLAT), cover
    scaled = np.clip(values / max(np.percentile(np.abs(values), 99), 1e-12), -1, 1)
    return scaled, 0.85 * np.sqrt(np.abs(scaled))


def _areas(areas: dict | None, before: str = "") -> str:
    return f"\n{before}del. {areas['deletion']:.2f}, ins. {areas['insertion']:.2f}" if areas else ""


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if np.ptp(values) > FLAT else f"constant {values.mean():.2f}"
