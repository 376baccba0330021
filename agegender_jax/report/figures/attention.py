"""Attention masks over faces (arXiv 2010.03791, Figs. 1 and 15)."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from agegender_jax.image_constants import LUMA
from agegender_jax.report.figures.mosaic import Row, Tile, mosaic

SIDE = 150  # pixels
FLAT = 1e-3  # a mask that varies less is drawn in one colour: its range is given with three digits
STRENGTH = 0.55  # of the colours over the grey picture


def attention(faces: Sequence[np.ndarray], masks: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """Return the faces and, below them, the mask of each module; each picture has its own colour scale, given below it.

    Args:
      faces: n pictures, uint8 RGB [h, w, 3].
      masks: name of the module -> float [n, h, w], at the size of the faces.
      labels: one line per face.
    """
    rows = [Row([Tile(face, below=text) for face, text in zip(faces, labels, strict=True)])]
    for name, mask in masks.items():
        low, high = mask.min((1, 2)), mask.max((1, 2))
        scaled = (mask - low[:, None, None]) / np.maximum(high - low, FLAT)[:, None, None]
        tiles = [
            Tile(overlay(face, one), below=f"{dark:.3f} to {bright:.3f}")
            for face, one, dark, bright in zip(faces, scaled, low, high, strict=True)
        ]
        rows.append(Row(tiles, name))
    return mosaic(rows, SIDE)


def overlay(face: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the grey picture tinted by a mask in [0, 1], [h, w]: uint8 [h, w, 3]."""
    grey = face @ np.array(LUMA)
    colours = 255 * matplotlib.colormaps["viridis"](mask)[..., :3]
    return ((1 - STRENGTH) * grey[..., None] + STRENGTH * colours).round().astype(np.uint8)
