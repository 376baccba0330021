"""Checkpoints whose files are damaged, incomplete, or of another net: what is loaded is what was saved, or an error."""

import concurrent.futures
import functools
import json
import shutil

import jax
import numpy as np
import pytest
import small_nets

from agegender_jax import config as config_lib
from agegender_jax import files, models, optim
from agegender_jax.checkpoint import Checkpoints, initial_weights, load_variables, manifest
from agegender_jax.config import default
from agegender_jax.errors import CheckpointError
from agegender_jax.loading import load_checkpoint
from agegender_jax.run.training import initial_state
from tests.faults import damage
from tests.faults.registry import Outcome, point

OLDER, NEWER = 3, 6


def make_config(name="resnet18", **fields):
    config = default()
    config.model.update(name=name, width=0.125, dropout=0.2, **fields)
    config.optimizer.ema, config.data.image_size = 0.99, 32
    return config


@functools.cache
def shapes_of(name):
    config = make_config(name)
    tx = optim.build(config.optimizer, 10)
    return jax.eval_shape(initial_state.initializer(config, models.from_config(config.model), tx))


def random_state(seed, name="resnet18"):
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return (rng.normal(size=leaf.shape) * 100).astype(leaf.dtype)

    return jax.tree.map(draw, shapes_of(name)).replace(step=np.int32(seed))


def save(folder, steps=(OLDER, NEWER), name="resnet18"):
    """Save random states with BatchNorm, EMA and optimizer; the newer is the better."""
    checkpoints = Checkpoints(folder)
    for step in steps:
        losses = {"val_loss": 2 / step, "calibrated_loss": 1 / step}
        checkpoints.save(step, random_state(step, name), config_lib.to_dict(make_config(name)), losses)
    checkpoints.close()
    return folder


def differs(a, b):
    """Return whether two pytrees differ in structure or in any bit."""
    same = jax.tree.structure(a) == jax.tree.structure(b)
    return not same or any(
        np.asarray(x).tobytes() != np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


class Recovery:
    """What is loaded from a folder whose newer step is damaged."""

    def __init__(self, folder):
        self.folder = folder
        self.state = random_state(OLDER)
        self.variables = {step: load_variables(folder, step)[0] for step in (OLDER, NEWER)}

    def problem(self, name, resume):
        """Return what is wrong after damage to the file `name`, None if the older step is used and the file is named.

        Args:
          resume: as a resumed training does, else as an evaluation does.
        """
        notices = []
        if resume:
            checkpoints = Checkpoints(self.folder, notices.append)
            state, step = checkpoints.restore_latest(shapes_of("resnet18"))
            checkpoints.close()
            wrong = differs(state, self.state)
            (self.folder / f"{NEWER}.unreadable").rename(self.folder / str(NEWER))
        else:
            variables, _, step = load_variables(self.folder, "best", notices.append)
            wrong = differs(variables, self.variables[OLDER])
        if step != OLDER or wrong:
            return f"step {step} is used, {'with other numbers' if wrong else 'whole'}"
        return None if name in notices[0] else f"{name} is not named: {notices[0]}"


def small(run):
    """Let resnet18 name a small ResNet while a point runs."""

    @functools.wraps(run)
    def wrapped(trials, rng, folder):
        with pytest.MonkeyPatch.context() as patch:
            small_nets.patch(patch, "resnet18")
            return run(trials, rng, folder)

    return wrapped


def damaged(trials, rng, folder, change):
    """Damage a file of the newer step in each trial, each class of files in turn."""
    recovery = Recovery(save(folder / "checkpoints"))
    step = recovery.folder / str(NEWER)
    classes = list(damage.by_class(step).values())
    failures = []
    thread = concurrent.futures.ThreadPoolExecutor(1)  # asyncio, which Orbax uses, is slower in Python 3.11's main one
    for i in range(trials):
        path = rng.choice(classes[i % len(classes)])
        name = path.relative_to(step).as_posix()
        with damage.content(path, change(path.read_bytes(), i)):
            try:
                problem = thread.submit(recovery.problem, name, resume=i // len(classes) % 2 == 1).result()
            except Exception as error:
                problem = f"{type(error).__name__} {error}"
        if problem:
            failures.append(f"trial {i}, {name}: {problem}")
    return Outcome(trials, failures, {"classes_of_files": len(classes)})


@point(
    "one flipped bit in a checkpoint: detected, the file named, the previous step used bit for bit", push=8, release=500
)
@small
def flipped(trials, rng, folder):
    return damaged(trials, rng, folder, lambda good, i: damage.flip(good, rng))


@point("a file of a checkpoint cut short, emptied or deleted: handled like a flipped bit", push=5, release=120)
@small
def cut_or_gone(trials, rng, folder):
    return damaged(
        trials, rng, folder, lambda good, i: (good[: rng.randrange(len(good))], b"", None)[i % 3 if len(good) else 2]
    )


@point(
    "all checkpoints damaged: exit code 4 with a reason for each, nothing restarts, all files stay", push=1, release=20
)
@small
def all_bad(trials, rng, folder):
    save(folder / "checkpoints")
    failures = []
    for i in range(trials):
        place = folder / str(i)
        shutil.copytree(folder / "checkpoints", place)
        for step in (OLDER, NEWER):
            path = rng.choice(
                [path for path in (place / str(step)).rglob("*") if path.is_file() and path.stat().st_size]
            )
            path.write_bytes(damage.flip(path.read_bytes(), rng))
        checkpoints = Checkpoints(place)
        for load in (lambda c=checkpoints: c.restore_latest(shapes_of("resnet18")), lambda p=place: load_variables(p)):
            try:
                load()
                failures.append(f"trial {i}: loaded")
            except CheckpointError as error:
                if not all(f"step {step}: " in error.what for step in (OLDER, NEWER)):
                    failures.append(f"trial {i}: {error.what}")
        checkpoints.close()
        if {path.name for path in place.iterdir()} != {str(OLDER), str(NEWER)}:
            failures.append(f"trial {i}: {list(place.iterdir())}")
    return Outcome(trials, failures)


@point(
    "a checkpoint of another net, with other keys, or in another format: the error names keys and shapes",
    push=4,
    release=8,
)
@small
def of_another_kind(trials, rng, folder):
    """Another net, another number of classes, a missing and a further array, another schema."""
    place = save(folder / "checkpoints")
    failures = []

    def expect(what, action, *texts):
        try:
            action()
            failures.append(f"{what}: no error")
        except CheckpointError as error:
            failures.extend(f"{what}: {text!r} is not in: {error}" for text in texts if text not in str(error))

    def resumed(template):
        checkpoints = Checkpoints(place)
        try:
            return checkpoints.restore_latest(template)
        finally:
            checkpoints.close()

    state = shapes_of("resnet18")
    head = {"gender_head": {"kernel": jax.ShapeDtypeStruct((64, 3), np.float32)}}
    cases = [
        lambda: expect("another net", lambda: resumed(shapes_of("levi_hassner")), "another model", "absent for"),
        lambda: expect(
            "classes", lambda: resumed(state.replace(params=state.params | head)), "gender_head/kernel float32["
        ),
        lambda: expect("a key too few", lambda: resumed(state.replace(ema=None)), "ema/"),
        lambda: expect(
            "a key too many", lambda: resumed(state.replace(params=state.params | {"x": head})), "absent for"
        ),
        lambda: expect(
            "weights for another net",
            lambda: initial_weights.load(str(folder), {"params": shapes_of("levi_hassner").params}),
            "missing: ",
            "unexpected: ",
        ),
        lambda: expect("its own config does not fit", lambda: _with_config(folder / "other", place), "another model"),
        lambda: expect("another schema", lambda: _with_schema(folder / "schema", place), "schema 2", "use the version"),
    ]
    for case in rng.sample(cases, min(trials, len(cases))):
        case()
    return Outcome(min(trials, len(cases)), failures)


def _with_config(folder, place):
    """Load a checkpoint whose config is of another net, with a manifest that fits."""
    shutil.copytree(place, folder / "checkpoints")
    step = folder / "checkpoints" / str(NEWER)
    (step / "config.json").write_text(files.to_json(config_lib.to_dict(make_config("levi_hassner"))))
    manifest.write(step, NEWER, {"val_loss": 0.1})
    load_checkpoint(folder)


def _with_schema(folder, place):
    shutil.copytree(place, folder / "checkpoints")
    path = folder / "checkpoints" / str(NEWER) / manifest.NAME
    record = json.loads(path.read_text()) | {"schema": 2}
    path.write_text(json.dumps(files.seal(record)))
    load_checkpoint(folder, "latest")
