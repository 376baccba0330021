"""Datasets that are too small or too uniform: an error that says so, or a training with warnings and without NaN."""

import json
import pathlib

import numpy as np
from PIL import Image

from agegender_jax import synthetic
from tests.faults import jobs
from tests.faults.registry import Outcome, point

ENDED, REFUSED = 0, 3
SOME = [(5 * i % 90, i % 2) for i in range(20)]
CASES = {  # name: labels (age, gender), batch_size, exit code of the training and of the evaluation, a text of either
    "no picture": ([], 2, REFUSED, 4, "no images in the data source"),
    "one picture": ([(30, 0)], 1, ENDED, REFUSED, "split is empty"),
    "three pictures": (SOME[:3], 2, ENDED, REFUSED, "split is empty"),
    "a batch larger than the split": (SOME[:5], 8, REFUSED, 4, "larger than the train split"),
    "one gender": ([(age, 1) for age, _ in SOME], 2, ENDED, ENDED, ""),
    "one age": ([(30, gender) for _, gender in SOME], 2, ENDED, ENDED, ""),
    "one class": ([(30, 1)] * 20, 2, ENDED, ENDED, ""),
    "oldest and youngest": ([(116 * (i % 2), i // 2 % 2) for i in range(20)], 2, ENDED, ENDED, ""),
    "one picture many times": ([(30, 1)] * 12, 2, ENDED, REFUSED, "split is empty"),
}


def write(folder, labels, same):
    """Draw a face for each label, or the same one for all."""
    folder.mkdir()
    for i, (age, gender) in enumerate(labels):
        face = synthetic.draw_face(np.random.default_rng(0 if same else i), age, gender, 0, 48)[0]
        Image.fromarray(face).save(folder / f"{age}_{gender}_0_{20170101000000000 + i}.png")


def train_and_evaluate(folder, names):
    """Train each case for three steps and evaluate it; return a line for each that did not end as promised."""
    from agegender_jax.config import default

    failures = []
    for name in names:
        labels, batch_size, *codes, text = CASES[name]
        place = pathlib.Path(folder, name.replace(" ", "_"))
        place.mkdir()
        write(place / "faces", labels, "many times" in name)
        config = default()
        config.model.update(name="levi_hassner", width=0.125)
        config.data.update(source=str(place / "faces"), cache_dir=str(place / "cache"), image_size=32)
        config.update(batch_size=batch_size, num_steps=3)
        config.log.figures = False
        ends = both(config, str(place / "run"), str(place / "out"))
        failures += [f"{name}: {ends} instead of {codes}"] if [code for code, _ in ends] != codes else []
        failures += [f"{name}: {text!r} is not in {ends}"] if not any(text in error for _, error in ends) else []
        failures += [f"{name}: {problem}" for path in place.glob("*/results.json") for problem in bad_numbers(path)]
    return failures


def both(config, run, out):
    """Train and evaluate; return the exit codes with which the two programs would end, each with the error's text."""
    from agegender_jax.cli import exits
    from agegender_jax.run import evaluate, train

    ends, options = [], {"source": None, "split": None, "checkpoint": "latest", "allow_leak": False, "draw": False}
    for action in (lambda: train.fit(config, run, []), lambda: evaluate.evaluate([run], out=out, **options)):
        try:
            action()
            ends.append((0, ""))
        except Exception as error:
            known = exits.as_user_error(error)
            ends.append((1, f"{type(error).__name__} {error}") if known is None else (known.code, str(known)))
    return ends


def bad_numbers(path):
    """Return what is no JSON in a results file: NaN and infinity."""
    bad = []
    json.loads(path.read_text(), parse_constant=bad.append)
    return [f"{name} in {path.parent.name}/{path.name}" for name in bad]


@point("datasets too small or uniform: exit 3 with the reason, or a run whose results have no NaN", push=0, release=9)
def trained(trials, rng, folder):
    return Outcome(trials, jobs.call(train_and_evaluate, str(folder), list(CASES)[:trials]))
