"""Views of an image whose predictions are averaged: the image itself, mirrored, and shifted."""

import jax
import jax.numpy as jnp

SHIFT = 0.04  # of the side
CENTRE, AROUND = ((0, 0),), ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
VIEWS = {"none": ((False,), CENTRE), "flip": ((False, True), CENTRE), "flip_shift": ((False, True), AROUND)}


def views(images: jax.Array, kind: str) -> list[jax.Array]:
    """Return the views of images [B, H, W, 3] of any dtype, all of this shape; the first is the image itself.

    Args:
      kind: "none" for the image alone; "flip" adds its mirror image; "flip_shift" adds to both the shifts by 4 % of
        the side to the left, right, top and bottom, edges repeated: ten views.
    """
    mirrors, shifts = VIEWS[kind]
    reach = max(1, round(SHIFT * images.shape[1]))
    return [
        _shift(images[:, :, ::-1] if mirror else images, y * reach, x * reach) for y, x in shifts for mirror in mirrors
    ]


def _shift(images: jax.Array, y: int, x: int) -> jax.Array:
    """Move the window down by y and to the right by x pixels."""
    if not (y or x):
        return images
    height, width = images.shape[1:3]
    rows, columns = (jnp.clip(jnp.arange(size) + by, 0, size - 1) for size, by in ((height, y), (width, x)))
    return images[:, rows][:, :, columns]
