"""NaN and infinity in the batch, gradient, parameters or moving average, under each `train.on_nonfinite`."""

import functools
import json
import os
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import losses, optim, parallel, training
from agegender_jax.checkpoint import Checkpoints, reading, tree
from agegender_jax.config import default
from agegender_jax.errors import NotFiniteError
from agegender_jax.models import layers
from agegender_jax.models.agegender import AgeGenderNet
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.run.training import nonfinite
from agegender_jax.run.training.loop import TrainingLoop
from agegender_jax.run.training.nonfinite import NonfiniteMonitor
from agegender_jax.run.training.training_log import Recorder
from agegender_jax.run.workdir import Workdir

COUNT, BATCH, STEPS = 40, 8, 15  # images, and three epochs of five batches
SAVE, LOG = 3, 2
GRADIENT = 100  # years of age that make the gradient infinite and leave the loss
DRIVERS = [("shard_map", 1), ("shard_map", 2), ("pmap", 1), ("pmap", 2)]


class Tiny(nn.Module):
    """BatchNorm and dropout of the pixels' means."""

    @nn.compact
    def attend(self, images, *, train):
        x = layers.norm(train, jnp.float32, parallel.AXIS)(name="bn")(images).mean((1, 2))
        return nn.Dropout(0.1, deterministic=not train)(x), ()


@jax.custom_vjp
def spoiled(logits, spoils):
    """Return the logits; their gradient is infinite for the examples at `spoils`."""
    return logits


spoiled.defvjp(
    lambda logits, spoils: (logits, spoils), lambda spoils, g: (jnp.where(spoils[:, None], jnp.inf, g), None)
)


def age_loss(logits, age, smoothing, years):
    return losses.age_loss(spoiled(logits, years == GRADIENT), age, smoothing, years=years)


@pytest.fixture(scope="module")
def config():
    config = default()
    config.update(batch_size=BATCH, num_steps=STEPS, seed=3)
    config.optimizer.update(ema=0.9, schedule="constant", clip_norm=0.0)
    config.data.update(num_workers=0, image_size=4)
    config.log.every_steps, config.checkpoint.every_steps, config.eval.every_epochs = LOG, SAVE, 100
    return config


@pytest.fixture(scope="module")
def tx(config):
    return optim.build(config.optimizer, STEPS)


@pytest.fixture(scope="module")
def compiled(config, tx):
    """Return the driver of a name, a number of devices and whether it skips, compiled once."""

    @functools.cache
    def build(name, devices, skips):
        step = functools.partial(
            training.train_step,
            model=AgeGenderNet(Tiny(), 12),
            tx=tx,
            key=jax.random.key(1),
            prepare_images=lambda keys, images: images,
            age_loss=age_loss,
            ema_decay=0.9,
            skip_nonfinite=skips,
        )
        return parallel.driver(name, step, jax.devices()[:devices])

    return build


@pytest.fixture(scope="module")
def initial(tx):
    state = training.init_state(AgeGenderNet(Tiny(), 12), tx, jax.random.key(0), 4, ema=True)
    return jax.tree.map(np.asarray, state)


class Run:
    """A run in `path` on images of which those at `bad` are NaN, and those at `steep` give an infinite gradient.

    `before`, a function of step and state, changes the state before a step.
    """

    def __init__(self, config, compiled, initial, path, policy, driver=("shard_map", 1)):
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(COUNT, 4, 4, 3)).astype(np.float32)
        self.years = np.full(COUNT, 30, np.int32)
        prepared = types.SimpleNamespace(
            images=lambda *_: self.images,
            age=rng.integers(0, 12, (COUNT, 1), dtype=np.int32).repeat(2, 1),
            gender=rng.integers(0, 2, COUNT, dtype=np.int32),
            age_years=self.years,
            file=np.array([f"{i}.jpg" for i in range(COUNT)]),
        )
        self.dataset = Dataset(prepared, np.array(["train"] * COUNT))
        self.config = config.copy_and_resolve_references()
        self.config.train.on_nonfinite = policy
        self.compiled, self.initial = compiled(*driver, policy == "skip"), initial
        self.folder = Workdir(path)
        self.before = lambda step, state: state
        self.tried = []

    def batch(self, step):
        return self.dataset.batch_files(self.config, step)

    def spoil(self, target, step):
        """Make `target` of a step not finite: a datum whenever it is used, or a part of the state the first time."""
        row = int(self.batch(step)[5].removesuffix(".jpg"))
        if target == "batch":
            self.images[row] = np.nan
        elif target == "gradient":
            self.years[row] = GRADIENT
        else:
            self.before = lambda at, state: spoiled_state(state, target) if (at, step) == (step, at) else state
        return self

    def start(self):
        """Train or resume, to the end; return the last checkpoint's arrays by name."""
        self.folder.path.mkdir(exist_ok=True)
        progress = Progress(silent=True)
        checkpoints = Checkpoints(self.folder.checkpoints)

        def restore():
            restored = checkpoints.restore_latest(self.initial)
            return self.initial if restored is None else restored[0]

        def step(state, batch):
            at = int(state.step) + 1
            self.tried.append(at)
            once = self.before if self.tried.count(at) == 1 else lambda at, state: state
            return self.compiled.step(once(at, state), batch)

        driver = types.SimpleNamespace(step=step, split=self.compiled.split, replicate=self.compiled.replicate)
        state = restore()
        arguments = (self.config, self.folder, progress, COUNT // BATCH, STEPS, int(state.step))
        try:
            with Recorder(*arguments) as recorder:
                monitor = NonfiniteMonitor(self.config, self.dataset, self.folder, progress)
                work = (self.config, self.dataset, driver, checkpoints, recorder, monitor, progress, StopFlag())
                TrainingLoop(*work, COUNT // BATCH, STEPS, restore).run(state)
        finally:
            checkpoints.close()
        return self.saved()[STEPS]

    def saved(self):
        """Return the arrays of every checkpoint on the disk by step."""
        folders = {step: self.folder.checkpoints / str(step) / reading.STATE for step in self.steps()}
        return {step: tree.named_leaves(tree.read(path, tree.shapes(path))) for step, path in folders.items()}

    def steps(self):
        return sorted(int(path.name) for path in self.folder.checkpoints.iterdir())

    def events(self):
        return [json.loads(line) for line in self.folder.nonfinite.read_text().splitlines()]

    def rows(self):
        return [json.loads(line) for line in self.folder.metrics.read_text().splitlines()]


def spoiled_state(state, target):
    bad = {"params": state.params, "ema": state.ema["params"]}[target]
    bad = bad | {"gender_head": jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(np.inf), bad["gender_head"])}
    return state.replace(**({"params": bad} if target == "params" else {"ema": state.ema | {"params": bad}}))


@pytest.fixture
def new_run(config, compiled, initial, tmp_path):
    return lambda policy, *driver, name="run": Run(config, compiled, initial, tmp_path / name, policy, *driver)


def check_saved_is_finite(run):
    """Check every number of every checkpoint, and that the log has every step once, in order."""
    for arrays in run.saved().values():
        assert all(np.isfinite(value).all() for value in arrays.values())
    steps = [row["step"] for row in run.rows()]
    assert steps == sorted(set(steps)) and steps == sorted({*range(LOG, steps[-1] + 1, LOG), steps[-1]})


TARGETS = ["batch", "gradient", "params", "ema"]


def test_rows_are_on_disk_before_the_checkpoint_that_resumes_after_them(new_run, monkeypatch):
    run = new_run("stop")
    rows_at_save, synced, fsync, save = {}, {}, os.fsync, Checkpoints.save

    def record(file):
        fsync(file)
        synced[os.readlink(f"/proc/self/fd/{file}")] = len(run.rows())

    def check(checkpoints, step, *args):
        rows_at_save[step] = len(run.rows()), synced[str(run.folder.metrics)]
        return save(checkpoints, step, *args)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Checkpoints, "save", check)
    run.start()
    assert rows_at_save[SAVE][0] == 1 and all(written == on_disk for written, on_disk in rows_at_save.values())


@pytest.mark.parametrize("target, driver", list(zip(TARGETS, DRIVERS, strict=True)))
def test_stop_ends_with_the_files_of_the_first_bad_step(new_run, target, driver):
    run = new_run("stop", driver).spoil(target, 5)
    with pytest.raises(NotFiniteError, match=r"not finite at or shortly before step [56]") as raised:
        run.start()
    assert run.steps() == [3] and run.tried[-1] <= 6  # at most a log interval late
    check_saved_is_finite(run)
    known = target != "ema"
    assert run.events() == [{"step": 5 if known else None, "action": "stop", "files": run.batch(5) if known else []}]
    assert raised.value.where.startswith(
        f"batch of step 5: {', '.join(run.batch(5)[:3])} and 5 more" if known else "tr"
    )
    assert "lower --config.optimizer.lr (now 0.005), or set --config.optimizer.clip_norm=1" in raised.value.fix


@pytest.mark.parametrize("target, driver", list(zip(TARGETS[:2], DRIVERS[1:3], strict=True)))
def test_skip_leaves_the_batches_out_and_logs_them(new_run, target, driver):
    run = new_run("skip", driver).spoil(target, 4)
    arrays = run.start()
    check_saved_is_finite(run)
    skipped = [event["step"] for event in run.events()]
    assert skipped[0] == 4 and len(skipped) == 3 and run.tried == list(range(1, STEPS + 1))  # one in each epoch
    assert [event["files"] for event in run.events()] == [run.batch(step) for step in skipped]
    (count,) = [value for name, value in arrays.items() if name.startswith("opt_state") and name.endswith("count")][:1]
    assert count == STEPS - 3
    rows = run.rows()
    assert [row["skipped"] for row in rows] == [
        sum(row["step"] - (LOG if row["step"] < STEPS else 1) < step <= row["step"] for step in skipped) for row in rows
    ]
    assert all(0 < row["loss"] < 10 for row in rows)


@pytest.mark.parametrize("target, driver", list(zip(TARGETS[2:], DRIVERS[::3], strict=True)))
def test_skip_stops_where_every_step_is_skipped(new_run, target, driver):
    run = new_run("skip", driver).spoil(target, 5)
    with pytest.raises(NotFiniteError):
        run.start()
    check_saved_is_finite(run)
    assert run.steps() == [3]


def test_skip_stops_after_ten_steps_in_a_row_over_a_restart(new_run, monkeypatch):
    monkeypatch.setattr(nonfinite, "MAX_SKIPPED", 5)
    run = new_run("skip")
    run.images[:] = np.nan
    run.before = interrupted_at(5)
    with pytest.raises(KeyboardInterrupt):
        run.start()
    run.before = lambda step, state: state
    with pytest.raises(NotFiniteError, match="in 5 steps in a row, up to step 5"):
        run.start()
    check_saved_is_finite(run)
    assert [event["step"] for event in run.events()] == [1, 2, 3, 4, 5, 5] and run.events()[-1]["action"] == "stop"
    assert run.rows()[0]["loss"] is None and run.rows()[0]["skipped"] == 2


@pytest.mark.parametrize("target, driver", list(zip(TARGETS, DRIVERS[::-1], strict=True)))
def test_rollback_repeats_the_steps_without_the_batch(new_run, target, driver):
    run = new_run("rollback", driver).spoil(target, 5)
    run.start()
    check_saved_is_finite(run)
    event = run.events()[0]
    known = target != "ema"
    assert event["action"] == "rollback" and event["resumed"] == 3 and event["step"] == (5 if known else None)
    assert event["excluded"] == ([5, 5] if known else [4, 6]) and event["files"] == (run.batch(5) if known else [])
    assert run.tried.count(5) == 1 and run.tried.count(4) == (2 if known else 1)
    assert len(run.events()) == (3 if target in ("batch", "gradient") else 1)  # one in each epoch
    assert sum(row.get("skipped", 0) for row in run.rows()) == sum(
        last - first + 1 for first, last in (event["excluded"] for event in run.events())
    )


def test_the_fourth_rollback_is_refused_also_after_a_restart(new_run):
    run = new_run("rollback")
    run.images[[int(name.removesuffix(".jpg")) for name in (run.batch(2)[0], run.batch(4)[0])]] = np.nan
    for message in ("after 3 rollbacks", "after 3 rollbacks"):
        with pytest.raises(NotFiniteError, match=message):
            run.start()
    check_saved_is_finite(run)
    assert [event["action"] for event in run.events()] == ["rollback"] * 3 + ["stop"]


def interrupted_at(step):
    def before(at, state):
        if at == step:
            raise KeyboardInterrupt
        return state

    return before


@pytest.mark.parametrize("policy, driver, kill", [("skip", DRIVERS[1], 8), ("rollback", DRIVERS[2], 6)])
def test_a_run_killed_after_a_bad_step_ends_bit_identical(new_run, policy, driver, kill):
    whole, killed = (new_run(policy, driver, name=name).spoil("batch", 5) for name in ("whole", "killed"))
    expected = whole.start()
    killed.before = interrupted_at(kill)
    with pytest.raises(KeyboardInterrupt):
        killed.start()
    got = killed.start()
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert killed.events() == whole.events()
    clocks = ("images_per_second", "data_wait")
    rows = [[{k: v for k, v in row.items() if k not in clocks} for row in run.rows()] for run in (killed, whole)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("target", ["batch", "gradient", "overflow"])
def test_a_skipped_step_changes_the_step_only(compiled, initial, new_run, driver, target):
    run, step = new_run("skip", driver), compiled(*driver, True)
    if target != "overflow":
        run.spoil(target, 1)
    batch = next(run.dataset.train_batches(run.config, 0, 1))
    huge = initial.replace(params=jax.tree.map(lambda x: x + 3e38, initial.params))
    state = huge if target == "overflow" else initial
    after = step.step(step.replicate(state), step.split(batch))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, after), state.replace(step=np.int32(1)))


def test_a_loss_that_grows_without_end_stops(new_run):
    run = new_run("stop")
    heads = {"age_head": jax.tree.map(lambda x: x * 1e8, run.initial.params["age_head"])}
    run.initial = run.initial.replace(params=run.initial.params | heads)
    with pytest.raises(NotFiniteError, match="the loss has diverged: a mean of .* over the 2 steps up to 2"):
        run.start()
    assert run.steps() == [] and run.rows()[-1]["loss"] > 1e4


def test_torn_and_foreign_lines_are_dropped_from_the_events(new_run):
    run = new_run("stop")
    run.folder.path.mkdir()
    run.folder.nonfinite.write_text('{"step": 2, "action": "skip", "files": []}\n[1]\n{"action": "rollback"}\n{"st')
    run.start()
    assert not run.events()  # none is of a step that is done
