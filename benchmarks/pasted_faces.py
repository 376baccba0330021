"""Measure how many faces pasted into photos are found, and whether their predictions equal those for the faces alone.

python -m benchmarks.pasted_faces --source=UTKFace.tar --workdir=runs/ran [--faces=420] [--seed=0]

Each photo of 1280 x 960 pixels has five faces of the source at random sizes, rolls and positions, with soft edges, on
scikit-learn's two sample photos or on drawn clutter. A detection belongs to a face if their centres are nearer than a
third of the face's side; every other one is a false alarm. Alone: the picture itself is searched, or taken as a chip.
Groups are by side and roll in the photo, and by the prediction for the face alone: whether it is `unsure`, the
probability of its gender, and whether it is flagged as a child. Writes results/pasted_faces.json.
"""

import collections
import functools

import numpy as np
from absl import app, flags, logging
from PIL import Image

from agegender_jax import Predictor
from agegender_jax.cli.exits import guard
from agegender_jax.data import sources
from agegender_jax.data.decoding import decode
from agegender_jax.prediction.face import OK
from agegender_jax.run.host import ynnpack
from benchmarks import result_files, tables
from benchmarks.made_by import made_by

SOURCE = flags.DEFINE_string("source", None, "Faces, as data.source.", required=True)
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Run; repeat for an ensemble. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Weights of the package.")
FACES = flags.DEFINE_integer("faces", 420, "Number of faces.")
SEED = flags.DEFINE_integer("seed", 0, "Of faces, sizes, rolls and positions.")

WIDTH, HEIGHT = 1280, 960
SIZES, ROLLS = (40, 60, 90, 130, 200, 300), (0, 10, 20, 30)
CELLS = ((0.17, 0.28), (0.5, 0.28), (0.83, 0.28), (0.33, 0.75), (0.7, 0.75))
LARGE = 130  # pixels of a side from which faces are a group
CONFIDENCES = (0.5, 0.7, 0.9, 0.98, 1.0)  # bounds of groups of the probability of the gender
NEAR = 1 / 3  # of a face's side


def backgrounds():
    """Return two real photos without faces, of the pictures' size."""
    from sklearn.datasets import load_sample_images

    return [
        np.array(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        for image in load_sample_images().images
    ]


def clutter(rng):
    """Return a picture of rectangles and noise, uint8 [H, W, 3]."""
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    photo = np.array(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    for _ in range(40):
        y, x, h, w = rng.integers(0, (HEIGHT, WIDTH, 200, 200))
        photo[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return np.clip(photo + rng.normal(0, 8, photo.shape), 0, 255).astype(np.uint8)


def paste(photo, face, centre, side, roll):
    """Paste a picture into a photo, with soft edges, turned clockwise by `roll` degrees."""
    ramp = np.clip((np.minimum(np.arange(side), np.arange(side)[::-1]) + 1) / max(0.02 * side, 1), 0, 1)
    picture = Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    picture.putalpha(Image.fromarray((255 * np.minimum.outer(ramp, ramp)).astype(np.uint8)))
    picture = picture.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    corner = (round(centre[0] - picture.width / 2), round(centre[1] - picture.height / 2))
    photo.paste(picture, corner, picture)


def compose(faces, rng, real):
    """Yield (photo, [(index of a face, centre, side, roll)])."""
    for start in range(0, len(faces), len(CELLS)):
        number = start // len(CELLS)
        photo = Image.fromarray(real[number % 2] if number % 2 else clutter(rng))
        placed = []
        for i, cell in enumerate(CELLS[: len(faces) - start]):
            side, roll = int(rng.choice(SIZES)), int(rng.choice(ROLLS)) * int(rng.choice((-1, 1)))
            centre = np.array(cell) * (WIDTH, HEIGHT) + rng.uniform(-20, 20, 2)
            paste(photo, faces[start + i], centre, side, roll)
            placed.append((start + i, centre, side, roll))
        yield np.array(photo), placed


def match(faces, centre, side):
    """Return the nearest face, None if it is too far away."""

    def distance(face):
        x, y, width, height = face.box
        return np.hypot(x + width / 2 - centre[0], y + height / 2 - centre[1])

    nearest = min(faces, key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) < NEAR * side else None


def groups_of(side, roll, alone, detected):
    """Return the names of the groups of a face, from its place in the photo and the predictions alone and there."""
    names = ["all", f"side {side}", f"roll {abs(roll)}"]
    if alone is None:
        return names
    bounds = zip(CONFIDENCES[:-1], CONFIDENCES[1:], strict=True)
    low, high = next(pair for pair in bounds if alone.confidence <= pair[1])
    sure = "sure" if alone.status == OK else "unsure"
    size = "large" if side >= LARGE else "small"
    names += [sure, f"{size}, {sure}", f"gender {low} to {high}"]
    names += ["sure in both"] if detected and sure == "sure" and detected.status == OK else []
    return [*names, "child"] if "child" in alone.flags else names


def kinds():
    """Return the names of the groups of each kind, in the order of the table."""
    return {
        "all": ["all"],
        "side": [f"side {side}" for side in SIZES],
        "roll": [f"roll {roll}" for roll in ROLLS],
        "status": ["sure", "unsure", "sure in both"],
        "size and status": [f"{size}, {sure}" for sure in ("sure", "unsure") for size in ("small", "large")],
        "gender": [f"gender {low} to {high}" for low, high in zip(CONFIDENCES[:-1], CONFIDENCES[1:], strict=True)],
        "child": ["child"],
    }


def summarise(rows):
    """Return the figures of a group of predictions (in the photo, alone, as a chip); the first two may be None."""
    pairs = [(detected, alone) for detected, alone, _ in rows if detected and alone]
    chips = [(detected, chip) for detected, _, chip in rows if detected]
    return {
        "faces": len(rows),
        "recall": round(float(np.mean([detected is not None for detected, *_ in rows])), 4),
        "age_change": _median(pairs),
        "same_gender": _same(pairs),
        "age_change_to_chip": _median(chips),
        "same_gender_as_chip": _same(chips),
    }


def _median(pairs):
    return round(float(np.median([abs(a.age - b.age) for a, b in pairs])), 3) if pairs else None


def _same(pairs):
    return round(float(np.mean([a.gender == b.gender for a, b in pairs])), 4) if pairs else None


def main(_):
    ynnpack.avoid()  # as the commands do
    logging.set_verbosity(logging.WARNING)
    rng = np.random.default_rng(SEED.value)
    items = [item for item in sources.read(SOURCE.value) if item.data]
    chosen = [items[i] for i in rng.choice(len(items), min(FACES.value, len(items)), replace=False)]
    faces = [decode(item.data) for item in chosen]
    options = {"weights": WEIGHTS.value} if not WORKDIR.value else {}
    command = {"workdir": WORKDIR.value, "weights": WEIGHTS.value}
    predictor = Predictor(*WORKDIR.value, **options)
    plain = Predictor(*WORKDIR.value, detector="none", **options)
    alone = [picture.faces[0] if picture.faces else None for picture in predictor.pictures(faces)]
    chip = [picture.faces[0] for picture in plain.pictures(faces)]
    photos, placed = zip(*compose(faces, rng, backgrounds()), strict=True)
    groups, alarms, flagged = collections.defaultdict(list), 0, collections.Counter()
    for picture, positions in zip(predictor.pictures(photos), placed, strict=True):
        matched = set()
        for index, centre, side, roll in positions:
            detected = match(picture.faces, centre, side)
            matched.add(id(detected))
            flagged.update(detected.flags if detected else ())
            for group in groups_of(side, roll, alone[index], detected):
                groups[group].append((detected, alone[index], chip[index]))
        alarms += sum(id(face) not in matched for face in picture.faces)
    table = {kind: {name: summarise(groups[name]) for name in names if groups[name]} for kind, names in kinds().items()}
    result = {
        "photos": {"number": len(photos), "false_alarms": alarms, "flags": dict(flagged)},
        "alone": {"found": sum(face is not None for face in alone), "seed": SEED.value},
        "groups": table,
        "weights": {member.name: member.digest for member in predictor.members},
        "made_by": made_by("pasted_faces", SOURCE.value, **command, faces=FACES.value, seed=SEED.value),
    }
    result_files.write(result_files.RESULTS / "pasted_faces.json", result)
    print(tables.pasted_faces(result))


if __name__ == "__main__":
    app.run(lambda argv: guard(functools.partial(main, argv)))
