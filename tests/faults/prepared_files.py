"""Prepared data that are damaged: what training reads is what was prepared, prepared again if necessary."""

import dataclasses
import shutil

import numpy as np

from agegender_jax import synthetic
from agegender_jax.data import checksums
from agegender_jax.data.prepare import prepare
from agegender_jax.data.prepared_files import BAD, INDEX
from agegender_jax.errors import DataError
from agegender_jax.run import checks
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.workdir import Workdir
from tests.faults import damage
from tests.faults.registry import Outcome, point

SIZE = 32


class Faces:
    """A source of few faces, two of its files unusable, prepared in a cache.

    Attributes:
      notes: what `prepare` has reported since the last `problem`.
    """

    def __init__(self, folder, count=12):
        self.source, self.cache, self.notes = folder / "faces", folder / "cache", []
        synthetic.write_faces(self.source, count, seed=0, size=SIZE)
        (self.source / "20_0_0_20170101000000000.jpg").write_bytes(b"\xff\xd8 torn")
        (self.source / "who_is_this.jpg").write_bytes(b"")
        self.good = self.state()
        self.folder = self.good.pop("folder")

    def state(self):
        """Return everything that a run reads."""
        prepared = prepare(str(self.source), str(self.cache), 0.5, lambda done, total, text: self.notes.append(text))
        fields = {
            name: getattr(prepared, name) for name in (f.name for f in dataclasses.fields(prepared)) if name[0] != "_"
        }
        fields.pop("records")
        encoded = [prepared.encoded(i) for i in range(len(prepared.file))]
        return fields | {
            "encoded": encoded,
            "images": np.array(prepared.images(SIZE + 1)),
            "equal": np.array(prepared.images(SIZE)),
        }

    def problem(self):
        """Return what differs now, None for nothing."""
        self.notes.clear()
        state = self.state()
        return ", ".join(name for name, value in self.good.items() if not np.array_equal(value, state[name])) or None

    def was_noticed(self):
        return any(
            text.startswith(("prepared data are damaged", "resizing", "reading the source")) for text in self.notes
        )


@point(
    "one flipped bit in prepared records, the index, decoded arrays or their description: the data are made again, "
    "none silent",
    push=9,
    release=500,
)
def flipped(trials, rng, folder):
    faces = Faces(folder)
    failures, harmless = [], 0
    classes = list(damage.by_class(faces.cache).items())
    for i in range(trials):
        name, paths = classes[i % len(classes)]
        path = rng.choice(paths)
        damaged = damage.flip(path.read_bytes(), rng)
        path.unlink()
        path.write_bytes(damaged)
        try:
            problem = faces.problem()
        except Exception as error:
            problem = f"{type(error).__name__} {error}"
        if problem:
            failures.append(f"trial {i}, {name}: {problem}")
        harmless += not faces.was_noticed()
    return Outcome(trials, failures, {"classes_of_files": len(classes), "harmless": harmless})


@point(
    "shards and other prepared files missing, swapped, cut short or described wrongly: prepared again",
    push=2,
    release=24,
)
def structure(trials, rng, folder):
    faces = Faces(folder)
    (shard,) = faces.folder.rglob("*.array_record*")
    (info,) = faces.folder.rglob("dataset_info.json")

    def change(path, *pair):
        text = path.read_text()
        assert pair[0] in text
        path.write_text(text.replace(*pair))
        checksums.write(faces.folder)  # consistent in itself

    damages = {
        "half a shard": lambda: shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2]),
        "no shard": shard.unlink,
        "an empty shard": lambda: shard.write_bytes(b""),
        "a further shard": lambda: shutil.copy(shard, shard.with_name(f"{shard.name}-of-9")),
        "another number of records": lambda: change(info, '"12"', '"13"'),
        "a longer shard": lambda: shard.write_bytes(shard.read_bytes() + b"\0" * 65536),
        "no index": (faces.folder / INDEX).unlink,
        "an index of nothing": lambda: np.savez(faces.folder / INDEX, column_file=np.array([])),
        "no list of bad files": (faces.folder / BAD).unlink,
        "no checksums": (faces.folder / checksums.NAME).unlink,
        "no files": lambda: [path.unlink() for path in faces.folder.rglob("*") if path.is_file()],
        "no folder": lambda: shutil.rmtree(faces.folder),
    }
    failures = []
    for i in range(trials):
        name = rng.choice(list(damages)) if trials < len(damages) else list(damages)[i % len(damages)]
        damages[name]()
        try:
            problem = faces.problem()
        except Exception as error:
            problem = f"{type(error).__name__} {error}"
        if problem:
            failures.append(f"{name}: {problem}")
    return Outcome(trials, failures)


@point("a source that changed between run and resumption: exit code 3", push=3, release=6)
def source_changed(trials, rng, folder):
    """A file more, one fewer, another name, another label, other pixels, another byte at its end."""
    import tiny_runs

    failures = []

    def change(i, files):
        path = files[0]
        if i == 0:
            shutil.copy(path, path.with_name(f"33_{path.name.partition('_')[2]}"))
        elif i == 1:
            path.unlink()
        elif i == 2:
            path.rename(path.with_name(f"{path.stem}0.jpg"))
        elif i == 3:
            age, gender, rest = path.name.split("_", 2)
            path.rename(path.with_name(f"{age}_{1 - int(gender)}_{rest}"))
        else:
            path.write_bytes(files[1].read_bytes() if i == 4 else path.read_bytes() + b"\0")

    for trial, i in enumerate(rng.sample(range(6), trials)):
        place = folder / str(trial)
        config = tiny_runs.make_config(place, 12)
        faces = load_dataset(config)
        run = Workdir(place / "run")
        with run:
            run.write_start(config, ["test"], faces.prepared, faces.assignment, print)
        change(i, sorted((place / "faces").iterdir()))
        try:
            checks.same_data(run, load_dataset(config))
            failures.append(f"change {i} is not seen")
        except DataError as error:
            if "changed since the run began" not in error.what or error.code != 3:
                failures.append(f"change {i}: {error}")
    return Outcome(trials, failures)
