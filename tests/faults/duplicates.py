"""Copies of pictures, changed a little, within a source and in another: never on both sides of a split."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageEnhance
from test_audit import picture

from agegender_jax import files
from agegender_jax.data import splits
from agegender_jax.data.prepare import prepare
from agegender_jax.errors import DataError
from agegender_jax.run import audit, leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir
from tests.faults import damage
from tests.faults.registry import Outcome, point

OTHERS, SIDE, SEEDS, COPY = 40, 64, 5, 1000


def recompressed(image):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=50)
    return Image.open(out)


CHANGES = {
    "the same": lambda image: image,
    "recompressed": recompressed,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "smaller": lambda image: image.resize((48, 48), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "all of them": lambda image: recompressed(
        ImageEnhance.Brightness(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((56, 56))).enhance(0.95)
    ),
}


def name(number, copy=0):
    return f"{20 + number % 60}_{number % 2}_0_{20170101000000000 + number + COPY * copy}.png"


def make(folder, numbers, kinds):
    """Write pictures with changed copies of some, and another source with these copies.

    Returns:
      both sources prepared, and a run that has trained on the first.
    """
    source, other = pathlib.Path(folder, "source"), pathlib.Path(folder, "other")
    for place in (source, other):
        place.mkdir()
    for number in range(OTHERS):
        picture(number, SIDE).save(source / name(number))
    for i, number in enumerate(numbers):
        changed = CHANGES[kinds[i % len(kinds)]](picture(number, SIDE))
        for path in (source / name(number, 1), other / name(number, 1)):
            changed.save(path)
    for number in range(OTHERS, OTHERS + 10):
        picture(number, SIDE).save(other / name(number))
    cache, run = str(folder / "cache"), Workdir(folder / "run")
    own, elsewhere = prepare(str(source), cache), prepare(str(other), cache)
    run.path.mkdir()
    run.write_faces(own, ["train"] * len(own.file))
    run.write_run([], "source", own.fingerprint)
    return own, elsewhere, run


def seen(run, elsewhere):
    """Return the files of the other source that the run has seen."""
    dataset = Dataset(elsewhere, np.array(["test"] * len(elsewhere.file)))
    return {elsewhere.file[i] for i in leaks.find(run, dataset, "test")}


@point("changed copies of pictures: in one split, listed by the audit, found as a leak in another source", 0, 28)
def copies(trials, rng, folder):
    """Each trial is a copy; the splits are those of several seeds."""
    kinds, copied, cache = list(CHANGES), rng.sample(range(OTHERS), trials), str(folder / "cache")
    own, elsewhere, run = make(folder, copied, kinds)
    failures, position, leaked = [], {file: i for i, file in enumerate(own.file)}, seen(run, elsewhere)
    source = str(folder / "source")
    audit.inspect(source, out=str(folder / "audit"), workdirs=[], split_seed=0, cache_dir=cache, command=[])
    listed = (folder / "audit" / "audit.json").read_text()
    for i, number in enumerate(copied):
        label = f"{number}, {kinds[i % len(kinds)]}"
        pair = [position[name(number)], position[name(number, 1)]]
        apart = [s for s in range(SEEDS) if len(set(splits.assign(own.group, own.content, s)[pair])) > 1]
        failures += [f"{label}: apart with the seeds {apart}"] if apart else []
        failures += [f"{label}: not in the audit"] if files.to_json(name(number, 1)) not in listed else []
        failures += [f"{label}: no leak"] if name(number, 1) not in leaked else []
    failures += [f"{file}: a leak without a copy" for file in leaked - {name(number, 1) for number in copied}]
    return Outcome(trials, failures, {"kinds": len(kinds)})


@point("one flipped bit in splits.csv of a run: an error, or the same leaks", push=0, release=500)
def flipped(trials, rng, folder):
    numbers = range(0, OTHERS, 2)
    own, elsewhere, run = make(folder, numbers, list(CHANGES))
    copied = {name(number, 1) for number in numbers}
    run.write_faces(own, ["" if file in copied else "train" for file in own.file])
    failures, errors, good, content = [], 0, seen(run, elsewhere), run.splits.read_bytes()
    for i in range(trials):
        parts = content.partition(rng.choice(content.splitlines(keepends=True))) if i % 2 else (b"", content, b"")
        if i % 2:  # in the first two cells of a row, which are few of the bytes
            cells = b",".join(parts[1].split(b",", 2)[:2])
            parts = parts[0], cells, parts[1][len(cells) :] + parts[2]
        with damage.content(run.splits, parts[0] + damage.flip(parts[1], rng) + parts[2]):
            try:
                missed = good - seen(run, elsewhere)
                failures += [f"trial {i}: {missed} are no leak"] if missed else []
            except DataError:
                errors += 1
            except Exception as error:
                failures.append(f"trial {i}: {type(error).__name__} {error}")
    failures += [] if len(good) == len(numbers) else [f"only {len(good)} leaks without damage"]
    return Outcome(trials, failures, {"errors": errors})
