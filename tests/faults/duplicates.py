"""Copies of pictures, changed a little, within a source and in another: never on both sides of a split."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageEnhance
from test_audit import picture

from agegender_jax import files
from agegender_jax.data import splits
from agegender_jax.data.prepare import prepare
from agegender_jax.run import audit, leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir
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


@point("changed copies of pictures: in one split, listed by the audit, seen as a leak in another source", 0, 28)
def copies(trials, rng, folder):
    """Each trial is a copy; the splits are those of several seeds."""
    source, other = pathlib.Path(folder, "source"), pathlib.Path(folder, "other")
    for place in (source, other):
        place.mkdir()
    kinds, copied = list(CHANGES), rng.sample(range(OTHERS), trials)
    for number in range(OTHERS):
        picture(number, SIDE).save(source / name(number))
    for i, number in enumerate(copied):
        changed = CHANGES[kinds[i % len(kinds)]](picture(number, SIDE))
        for path in (source / name(number, 1), other / name(number, 1)):
            changed.save(path)
    for number in range(OTHERS, OTHERS + 10):
        picture(number, SIDE).save(other / name(number))
    cache = str(folder / "cache")
    own, elsewhere = prepare(str(source), cache), prepare(str(other), cache)
    failures, position = [], {file: i for i, file in enumerate(own.file)}
    audit.inspect(str(source), out=str(folder / "audit"), workdirs=[], split_seed=0, cache_dir=cache, command=[])
    listed = (folder / "audit" / "audit.json").read_text()
    run = Workdir(folder / "run")
    run.path.mkdir()
    run.write_faces(own, ["train"] * len(own.file))
    run.write_run([], "source", own.fingerprint)
    seen = leaks.find(run, Dataset(elsewhere, np.array(["test"] * len(elsewhere.file))), "test")
    seen = {elsewhere.file[i] for i in seen}
    for i, number in enumerate(copied):
        label = f"{number}, {kinds[i % len(kinds)]}"
        pair = [position[name(number)], position[name(number, 1)]]
        apart = [s for s in range(SEEDS) if len(set(splits.assign(own.group, own.content, s)[pair])) > 1]
        failures += [f"{label}: apart with the seeds {apart}"] if apart else []
        failures += [f"{label}: not in the audit"] if files.to_json(name(number, 1)) not in listed else []
        failures += [f"{label}: no leak"] if name(number, 1) not in seen else []
    failures += [f"{file}: a leak without a copy" for file in seen - {name(number, 1) for number in copied}]
    return Outcome(trials, failures, {"kinds": len(kinds)})
