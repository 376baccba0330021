"""Measure how much the alignment of a face changes if the picture is turned and scaled, by number of detections.

python -m benchmarks.alignment --source=fairface_10k.tar [--faces=300] [--seed=0]

Each picture is turned by up to 20 degrees and scaled by 0.6 to 1.5 on a plain background. The error is the distance of
the chip's corners to those of the unchanged picture, as a root mean square and a fraction of the chip's side. Writes
results/alignment.json.
"""

import functools
import time

import cv2
import numpy as np
from absl import app, flags, logging

from agegender_jax.cli.exits import guard
from agegender_jax.data import sources
from agegender_jax.data.decoding import decode
from agegender_jax.photos import alignment, detector
from benchmarks import result_files, tables
from benchmarks.made_by import made_by

SOURCE = flags.DEFINE_string("source", None, "Faces, as data.source.", required=True)
FACES = flags.DEFINE_integer("faces", 300, "Number of faces.")
SEED = flags.DEFINE_integer("seed", 0, "Of faces, rolls and scales.")
SIZE = 320  # pixels of the changed pictures
ONE = ((128, 80, False),)
FOUR = tuple(crop for crop in alignment.STEPS[1] if crop[:2] in ((128, 64), (192, 128)))
PLANS = {
    "detection only": (),
    "one crop": (ONE,),
    "two crops, one after the other": (ONE, ONE),
    "one, then the mean of four": (ONE, FOUR),
    "one, then the mean of eight (used)": alignment.STEPS,
    "the mean of eight, twice": (alignment.STEPS[1], alignment.STEPS[1]),
}


def change(image, rng):
    """Return the picture turned and scaled, its matrix [2, 3] and the roll in degrees."""
    roll, scale = rng.uniform(-20, 20), rng.uniform(0.6, 1.5)
    cosine, sine = scale * np.cos(np.radians(roll)), scale * np.sin(np.radians(roll))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array(image.shape[1::-1]) / 2
    matrix = np.column_stack([turn, SIZE / 2 - turn @ middle])
    return alignment.warp(image, matrix, SIZE, tuple(int(x) for x in rng.integers(40, 200, 3))), matrix, roll


def main(_):
    logging.set_verbosity(logging.WARNING)
    rng = np.random.default_rng(SEED.value)
    items = [item for item in sources.read(SOURCE.value) if item.data]
    errors, rolls, seconds, missed = (
        {name: [] for name in PLANS},
        {name: [] for name in PLANS},
        dict.fromkeys(PLANS, 0),
        0,
    )
    for i in rng.choice(len(items), min(FACES.value, len(items)), replace=False):
        image = decode(items[i].data)
        changed, matrix, roll = change(image, rng)
        before, after = detector.detect(image), detector.detect(changed)
        if not before or not after:
            missed += 1
            continue
        for name, steps in PLANS.items():
            start = time.process_time()
            first = alignment.align(image, before[0], steps)
            seconds[name] += time.process_time() - start
            second = alignment.align(changed, after[0], steps)
            moved = first.corners() @ matrix[:, :2].T + matrix[:, 2]
            errors[name].append(np.sqrt(((moved - second.corners()) ** 2).sum(1).mean()) / second.side)
            rolls[name].append(abs(second.roll - first.roll - roll))
    rows = {
        name: {
            "median_error": round(float(np.median(errors[name])), 6),
            "error_95": round(float(np.percentile(errors[name], 95)), 6),
            "median_roll_error": round(float(np.median(rolls[name])), 6),
            "cpu_ms": round(1000 * seconds[name] / len(errors[name]), 2),
        }
        for name in PLANS
    }
    counts = {"faces": FACES.value - missed, "missed": missed, "seed": SEED.value, "opencv": cv2.__version__}
    result = {"rows": rows, **counts, "made_by": made_by("alignment", SOURCE.value, faces=FACES.value, seed=SEED.value)}
    result_files.write(result_files.RESULTS / "alignment.json", result)
    print(tables.alignment(result))


if __name__ == "__main__":
    app.run(lambda argv: guard(functools.partial(main, argv)))
