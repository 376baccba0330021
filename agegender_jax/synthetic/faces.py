"""Generate synthetic faces with known age, gender and race, as in configs/quickstart.py.

Labels are sampled first, then traits (traits.py). The face is drawn (parts.py, hair_and_wrinkles.py) and photographed:
pose, light, background, colour cast and noise. It uses only NumPy and Pillow, and the result is the same on every
machine.
"""

import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from agegender_jax.synthetic import hair_and_wrinkles, parts
from agegender_jax.synthetic.traits import Chance, sample_traits

# Share of the faces in each ten years of age from 0-9 on; near UTKFace's spread, none above 0.16.
AGE_SHARES = (0.13, 0.11, 0.16, 0.15, 0.13, 0.11, 0.09, 0.07, 0.04, 0.01)
RACE_SHARES = (0.36, 0.18, 0.20, 0.16, 0.10)  # in the order of labels.RACES

_NAME = re.compile(r"[0-9]+_[01]_[0-4]_([0-9]{8})([0-9]{9})\.jpg\.chip\.jpg")


def sample_label(rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a random label (age_years 0..95, gender 0..1, race 0..4)."""
    decade = int(np.searchsorted(np.cumsum(AGE_SHARES), float(rng.random()) * 0.999999))
    years = 6 if decade == 9 else 10
    race = int(np.searchsorted(np.cumsum(RACE_SHARES), float(rng.random()) * 0.999999))
    return 10 * decade + int(rng.random() * years), int(rng.random() < 0.5), race


def draw_face(
    rng: np.random.Generator, age_years: int, gender: int, race: int, size: int = 96
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw one face.

    Returns:
      The picture, uint8 [size, size, 3], and the regions visible in it: name -> bool [size, size]. These are always
      "head", "eyes", "nose" and "mouth"; if visible also "hair", "brows", "beard", "wrinkles", "spots", "ears", "neck",
      "glasses" (the frames), "earrings" and "bow". Eyes, nose, mouth, brows, beard, wrinkles and spots are also part of
      "head". Other regions overlap only where both are visible: at soft edges, through thin hair or stubble, and where
      nose, wrinkles and spots shade the same skin.
    """
    f = sample_traits(rng, age_years, gender, race)
    chance = Chance(rng, age_years)
    angle = chance.bell(0, 0.16)
    roll = round(math.cos(angle), 6), round(math.sin(angle), 6)
    turn = chance.bell(0, 0.08), chance.bell(0, 0.03)
    centre = chance.bell(0, 0.055), chance.bell(0.01, 0.055)
    c = parts.Canvas(_background(rng, chance, size), chance.between(0.39, 0.48), centre, roll, turn, f.head_width)
    light = (
        chance.bell(0, 0.32),
        chance.bell(-0.2, 0.2),
        chance.between(0.7, 1.0),
        chance.between(0.35, 0.65),
    )
    grain = _noise(rng, size, 1, 1)
    strands = _noise(rng, size, 3, 3) if f.curly else _noise(rng, size, 13, 2)
    hair_and_wrinkles.draw_back_hair(c, f, strands)
    inside = parts.draw_skin(c, f, chance, light, _noise(rng, size, 5, 5))
    c.paint(c.ellipse(c.au, c.vf, (0.42, f.eye_level + 0.34), 0.2, 0.16, 0.2) * f.blush, (0.85, 0.35, 0.32))
    hair_and_wrinkles.draw_spots(c, f, chance, inside)
    base = parts.draw_nose(c, f, light)
    mouth = base + (1 - base) * 0.42
    hair_and_wrinkles.draw_wrinkles(c, f, chance, base, mouth)
    if f.moustache:
        hair_and_wrinkles.draw_beard(c, f, inside, mouth, base, grain)
    parts.draw_mouth(c, f, base)
    parts.draw_eyes(c, f, chance)
    parts.draw_brows(c, f, hair_and_wrinkles.hair_colour(f, f.grey * 0.7, grain) * 0.6)
    hair_and_wrinkles.draw_top_hair(c, f, strands, chance)
    hair_and_wrinkles.draw_extras(c, f, chance)
    return _photograph(rng, chance, c.picture), {name: mask for name, mask in c.masks.items() if mask.any()}


def write_faces(
    folder, num: int, seed: int, size: int = 96, progress: Callable[[int, int, str], None] | None = None
) -> list[pathlib.Path]:
    """Write `num` JPEGs with UTKFace names to `folder`; face i depends only on (seed, i, size).

    `masks` returns the regions of a file from its name, for seeds below 10**8.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(num):
        name, picture, _ = _numbered_face(seed, index, size)
        paths.append(folder / name)
        Image.fromarray(picture).save(paths[-1], quality=92)
        if progress:
            progress(index + 1, num, "drawing faces")
    return paths


def masks(name: str, size: int = 96) -> dict[str, np.ndarray]:
    """Return the regions of a file written by `write_faces`, by generating it again from its name.

    Args:
      name: the file's name without its folder. It contains the last 8 digits of the seed; files written with a seed of
        10**8 or more are therefore refused, unless the labels fit by chance.
      size: side of the file in pixels; another size gives another face.

    Returns:
      Region -> bool [size, size], as from `draw_face`.

    Raises:
      ValueError: the name is not one from `write_faces`, or its labels are not those of the face.
    """
    numbers = _NAME.fullmatch(name)
    if numbers is None:
        raise ValueError(f"not the name of a drawn face, age_gender_race_17digits.jpg.chip.jpg: {name!a}")
    drawn, _, regions = _numbered_face(int(numbers[1]), int(numbers[2]), size)
    if drawn != name:
        raise ValueError(f"no drawn face, or one of a seed from 10**8 on: {name!a}; its seed and index give {drawn}")
    return regions


def _numbered_face(seed: int, index: int, size: int) -> tuple[str, np.ndarray, dict[str, np.ndarray]]:
    """Return the name, picture and regions of face `index`."""
    rng = np.random.default_rng([seed, index])
    age_years, gender, race = sample_label(rng)
    unique = f"{seed % 10**8:08d}{index:09d}"
    return f"{age_years}_{gender}_{race}_{unique}.jpg.chip.jpg", *draw_face(rng, age_years, gender, race, size)


def _background(rng: np.random.Generator, chance: Chance, size: int) -> np.ndarray:
    """Return smooth patches of colour, float32 [3, size, size]."""
    base = 255 * chance.between(0.1, 0.9) + 90 * (rng.random(3) - 0.5)
    cells = base + (rng.random((5, 5, 3)) - 0.5) * chance.between(20, 90)
    small = Image.fromarray(np.clip(cells, 0, 255).astype(np.uint8))
    picture = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def _noise(rng: np.random.Generator, size: int, tall: int, wide: int) -> np.ndarray:
    """Return noise of mean 0 and deviation about 0.5, smoothed over `tall` x `wide` pixels, float32 [size, size]."""
    noise = rng.random((size + tall - 1, size + wide - 1), dtype=np.float32) - np.float32(0.5)
    rows: Any = sum(noise[k : k + size] for k in range(tall))
    smooth: Any = sum(rows[:, k : k + size] for k in range(wide))
    return np.clip(smooth * (1.73 / math.sqrt(tall * wide)), -1, 1).astype(np.float32)


def _photograph(rng: np.random.Generator, chance: Chance, picture: np.ndarray) -> np.ndarray:
    """Apply exposure, contrast, colour cast and sensor noise: float32 [3, S, S] to uint8 [S, S, 3]."""
    gain, contrast = chance.between(0.75, 1.15), chance.between(0.8, 1.15)
    cast = np.array([gain * chance.bell(1, 0.045) for _ in range(3)], np.float32)[:, None, None]
    picture = 0.5 + contrast * (picture * cast - 0.5)
    picture = picture + chance.between(0.02, 0.06) * (rng.random(picture.shape, dtype=np.float32) - np.float32(0.5))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()
