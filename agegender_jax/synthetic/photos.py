"""Photos of several drawn faces, for examples and measurements."""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from agegender_jax.synthetic.faces import draw_face

PEOPLE = ((8, 0), (34, 1), (71, 0))  # age in years and gender of each, as in labels.GENDERS


def draw_photo(
    width: int = 960, height: int = 320, people: Sequence[tuple[int, int]] = PEOPLE, seed: int = 1
) -> np.ndarray:
    """Return uint8 RGB [height, width, 3]: faces side by side in front of a blurred background.

    Args:
      people: age in years and gender of each face, from left to right.
    """
    rng = np.random.default_rng(seed)
    colours = rng.integers(100, 170, (5, 8, 3), dtype=np.uint8)
    photo = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    for i, (age, gender) in enumerate(people):
        side = int(min(height, width / len(people)) * (0.75 + 0.15 * rng.random()))
        face, regions = draw_face(rng, age, gender, int(rng.integers(5)), side)
        shown = np.any(list(regions.values()), 0)
        alpha = Image.fromarray((255 * shown).astype(np.uint8)).filter(ImageFilter.GaussianBlur(side / 150))
        x = round((i + 0.5) * width / len(people) - side / 2)
        photo.paste(Image.fromarray(face), (x, height - side), alpha)
    return np.array(photo)


def write_photo(path: str | pathlib.Path, seed: int = 1) -> None:
    """Write the result of `draw_photo` to a picture file; the suffix of the path selects the format."""
    Image.fromarray(draw_photo(seed=seed)).save(path, quality=90)
