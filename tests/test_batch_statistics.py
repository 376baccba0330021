"""Re-estimated BatchNorm statistics: their values, their images, and their use in training."""

import os
import signal
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_runs
import tiny_training

from agegender_jax import config as config_lib
from agegender_jax import data, models, training
from agegender_jax.checkpoint import tree
from agegender_jax.errors import PeerReportedError, Stopped
from agegender_jax.run import train
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.run.training import batch_statistics, loop, validate

NET = models.AgeGenderNet(tiny_training.Smooth(axis_name=None), 12)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def state():
    return training.init_state(NET, optax.sgd(1.0), jax.random.key(0), 32, ema=True)


def first_layer(params, images):
    """Return the input of the first BatchNorm."""
    kernel = params["backbone"]["conv0"]["kernel"]
    pad = ((1, 1), (1, 1))
    layout = ("NHWC", "HWIO", "NHWC")
    return np.asarray(
        jax.lax.conv_general_dilated(data.normalize(jnp.array(images)), kernel, (2, 2), pad, dimension_numbers=layout)
    )


def test_statistics_are_the_means_of_the_batches_means_and_variances(state):
    parts = (IMAGES[:16], IMAGES[16:24])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    result = batch_statistics.mean_statistics(NET, variables, ((part, np.zeros(len(part), int)) for part in parts))
    layers = [first_layer(state.params, part) for part in parts]
    first = result["backbone"]["bn0"]
    np.testing.assert_allclose(first["mean"], np.mean([x.mean((0, 1, 2)) for x in layers], 0), atol=1e-4)
    np.testing.assert_allclose(first["var"], np.mean([x.var((0, 1, 2)) for x in layers], 0), rtol=1e-3)
    assert jax.tree.structure(result) == jax.tree.structure(state.batch_stats)
    compiled = batch_statistics._statistics._cache_size()
    batch_statistics.mean_statistics(NET, variables, ((part, np.zeros(len(part), int)) for part in parts))
    assert batch_statistics._statistics._cache_size() == compiled  # a later evaluation compiles nothing


@pytest.mark.parametrize("averaged", [True, False])
def test_the_evaluated_weights_get_statistics_of_train_images(state, averaged, monkeypatch):
    config = config_lib.default()
    config.batch_size, config.eval.bn_batches = 8, 2
    seen = {}

    def statistics(model, variables, batches):
        seen["variables"], seen["batches"] = variables, [images for images, _ in batches]
        return "new"

    monkeypatch.setattr(batch_statistics, "mean_statistics", statistics)
    prepared = types.SimpleNamespace(images=lambda size: IMAGES, gender=np.zeros(40, int))
    dataset = types.SimpleNamespace(
        prepared=prepared, indices=lambda split: np.arange(30) if split == "train" else None
    )
    state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema) if averaged else None)
    changed = batch_statistics.reestimate(config, dataset, state)
    assert [batch.shape for batch in seen["batches"]] == [(8, 32, 32, 3)] * 2
    train_images = {image.tobytes() for image in IMAGES[:30]}
    assert len({image.tobytes() for batch in seen["batches"] for image in batch} & train_images) == 16
    expected = state.ema if averaged else {"params": state.params, "batch_stats": state.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, seen["variables"], expected)
    assert (changed.ema if averaged else {"batch_stats": changed.batch_stats})["batch_stats"] == "new"
    assert (changed.batch_stats is state.batch_stats) == averaged


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Four steps, three an epoch, of a net that compiles quickly."""
    config = tiny_runs.make_config(tmp_path_factory.mktemp("data"), 60)
    config.update({"num_steps": 4, "eval": {"bn_batches": 1}, "checkpoint": {"every_steps": 1}})
    return config


class Steps:
    """Replaces `reestimate` by a function of the weights, and scores by nothing; `seen` lists what is called.

    Attributes:
      stop_at: a step before whose statistics are complete SIGTERM arrives, once.
    """

    def __init__(self, monkeypatch):
        self.seen, self.stop_at = [], None
        monkeypatch.setattr(batch_statistics, "reestimate", self.reestimate)
        monkeypatch.setattr(validate.Validator, "__call__", lambda validator, step, state: self.validate(step, state))
        monkeypatch.setattr(train.final_test, "test", lambda *args: None)

    def reestimate(self, config, dataset, state, stop):
        self.seen.append(int(state.step))
        if self.stop_at == state.step:
            self.stop_at = None
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop.code:  # the handler runs in the main thread, a little later
                time.sleep(0.001)
            stop.check("computing BatchNorm statistics")
        return state.replace(params=jax.tree.map(lambda x: x * 0 + 0.5, state.params))

    def validate(self, step, state):
        self.seen.append(float(jax.tree.leaves(state.params)[0].max()))
        return {"calibrated_loss": 1.0, "val_loss": 1.0}


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


def saved_weights(run, step):
    """Return the largest parameter and the optimizer's moments of a checkpoint."""
    shapes = tree.shapes(run / "checkpoints" / str(step) / "state")
    state = tree.read(run / "checkpoints" / str(step) / "state", shapes)
    return max(float(leaf.max()) for leaf in jax.tree.leaves(state["params"])), state["opt_state"]


def test_training_saves_reestimates_and_saves_again_before_validation(config, steps, tmp_path):
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert steps.seen == [3, 0.5, 4, 0.5]
    assert [saved_weights(tmp_path / "run", step)[0] for step in (3, 4)] == [0.5, 0.5]


def test_after_a_stop_the_next_start_reestimates(config, steps, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train.fit(config, str(whole), ["test"])
    steps.seen.clear()
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped at step 3 after saving"):
        patch.setattr(loop, "stop_requested", lambda step, *_: 75 if step == 3 else 0)
        train.fit(config, str(stopped), ["test"])
    assert steps.seen == [] and saved_weights(stopped, 3)[0] != 0.5  # nothing comes between the signal and the save
    for step in (3, 4):
        steps.stop_at = step
        with pytest.raises(Stopped, match="stopped while computing"):
            train.fit(config, str(stopped), ["test"])
        assert steps.seen[-1] == step and saved_weights(stopped, step)[0] != 0.5
    train.fit(config, str(stopped), ["test"])
    assert steps.seen == [3, 3, 0.5, 4, 4, 0.5]
    ours, theirs = saved_weights(stopped, 4), saved_weights(whole, 4)
    assert ours[0] == theirs[0] == 0.5
    jax.tree.map(np.testing.assert_array_equal, ours[1], theirs[1])


@pytest.mark.parametrize("error", [Stopped(75, 3), PeerReportedError(75)])
def test_every_process_waits_for_the_save_after_a_stop(error):
    finished = []
    checkpoints = types.SimpleNamespace(finish=lambda: finished.append(True))
    with pytest.raises(type(error)), validate.finish_save_if_stopped(checkpoints):
        raise error
    with pytest.raises(PeerReportedError), validate.finish_save_if_stopped(checkpoints):
        raise PeerReportedError(3)
    assert finished == [True]


def test_a_signal_ends_the_computation_between_batches(state):
    config = config_lib.default()
    config.batch_size, config.eval.bn_batches = 8, 2
    prepared = types.SimpleNamespace(images=lambda size: IMAGES, gender=np.zeros(40, int))
    dataset = types.SimpleNamespace(prepared=prepared, indices=lambda split: np.arange(30))
    stop = StopFlag()
    stop.code = 130
    with pytest.raises(Stopped, match="at step 0") as caught:
        batch_statistics.reestimate(config, dataset, state, stop)
    assert caught.value.code == 130
