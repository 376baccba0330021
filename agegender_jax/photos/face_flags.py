"""Warnings about a face, from its pixels and its position in the picture. docs/predict.md has their measured rates."""

import numpy as np

from agegender_jax.photos.alignment import Alignment

SMALL, TILTED, CUT_OFF, GREY, SWAPPED = "small_face", "tilted", "cut_off", "looks_grey", "channels_swapped?"
LEAST_SIDE = 40  # pixels of the picture under a chip's side
MOST_ROLL = 20  # degrees; a face turned by 45 is often measured as 25
MOST_OUTSIDE = 0.25  # of the chip's area
GREY_CHROMA = 2.5  # mean of the largest minus the smallest channel
SWAPPED_TINT = -0.01  # (red - blue) / (red + green + blue) in the middle of the face: skin is above
_GRID = 24  # points a side


def flags(chip: np.ndarray, shape: tuple[int, ...], alignment: Alignment | None) -> list[str]:
    """Return the names of problems that may make the prediction for a chip worse.

    Args:
      chip: uint8 RGB [S, S, 3].
      shape: of the picture, [H, W, 3].
      alignment: of the face in it; None where the chip is the whole picture.
    """
    warnings = []
    if (min(shape[:2]) if alignment is None else alignment.side) < LEAST_SIDE:
        warnings.append(SMALL)
    if alignment is not None and abs(alignment.roll) > MOST_ROLL:
        warnings.append(TILTED)
    if alignment is not None and outside(alignment, shape) > MOST_OUTSIDE:
        warnings.append(CUT_OFF)
    if chroma(chip) < GREY_CHROMA:
        warnings.append(GREY)
    elif tint(chip) < SWAPPED_TINT:
        warnings.append(SWAPPED)
    return warnings


def outside(alignment: Alignment, shape: tuple[int, ...]) -> float:
    """Return the share of a chip's area that lies outside of its picture."""
    ticks = (np.arange(_GRID) + 0.5) / _GRID
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    x, y = alignment.in_picture(points).T
    inside = (x >= 0) & (y >= 0) & (x <= shape[1]) & (y <= shape[0])
    return 1 - float(inside.mean())


def chroma(chip: np.ndarray) -> float:
    """Return the mean of the largest minus the smallest channel, 0 to 255."""
    red, green, blue = np.moveaxis(chip, -1, 0)  # ten times as fast as max and min over an axis of three
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float((most - least).mean())


def tint(chip: np.ndarray) -> float:
    """Return (red - blue) / (red + green + blue) of the face's middle, -1 to 1."""
    side = chip.shape[0]
    skin = chip[side * 3 // 10 : side * 3 // 4, side // 4 : side * 3 // 4].astype(np.float64)
    red, green, blue = skin.mean((0, 1))
    return float((red - blue) / max(red + green + blue, 1.0))
