"""Photos of drawn faces on drawn backgrounds, each face at a known position."""

import functools
import io

import numpy as np
from PIL import Image

from agegender_jax import synthetic


@functools.cache
def face(seed=2, size=160, age=34, gender=1):
    """Return a drawn face that YuNet detects, uint8 [size, size, 3]."""
    return synthetic.faces.draw_face(np.random.default_rng(seed), age, gender, 0, size)[0]


def background(height, width, seed=0):
    """Return smooth random colours, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(60, 200, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def paste(photo, picture, centre, side, roll=0.0):
    """Return a photo with a picture of `side` pixels around `centre` (x, y), turned clockwise by `roll` degrees."""
    layer = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC).convert("RGBA")
    layer = layer.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    canvas = Image.fromarray(photo)
    canvas.paste(layer, (round(centre[0] - layer.width / 2), round(centre[1] - layer.height / 2)), layer)
    return np.array(canvas)


def encode(image, kind="PNG", **options):
    """Return the bytes of a picture file."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()
