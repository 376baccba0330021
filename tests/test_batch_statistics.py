"""BatchNorm statistics computed again: their values, which images they are of, and where training uses them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training

from agegender_jax import config as config_lib
from agegender_jax import data, models, synthetic, training
from agegender_jax.run import batch_statistics, train

NET = models.AgeGenderNet(tiny_training.Smooth(axis_name=None), 12)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def state():
    return training.init_state(NET, optax.sgd(1.0), jax.random.key(0), 32, ema=True)


def first_layer(params, images):
    """The input of the first BatchNorm."""
    kernel = params["backbone"]["conv0"]["kernel"]
    pad = ((1, 1), (1, 1))
    layout = ("NHWC", "HWIO", "NHWC")
    return np.asarray(
        jax.lax.conv_general_dilated(data.normalize(jnp.array(images)), kernel, (2, 2), pad, dimension_numbers=layout)
    )


def test_statistics_are_the_means_of_the_batches_means_and_variances(state):
    parts = (IMAGES[:16], IMAGES[16:24])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    found = batch_statistics.mean_statistics(NET, variables, ((part, np.zeros(len(part), int)) for part in parts))
    layers = [first_layer(state.params, part) for part in parts]
    first = found["backbone"]["bn0"]
    np.testing.assert_allclose(first["mean"], np.mean([x.mean((0, 1, 2)) for x in layers], 0), atol=1e-4)
    np.testing.assert_allclose(first["var"], np.mean([x.var((0, 1, 2)) for x in layers], 0), rtol=1e-3)
    assert jax.tree.structure(found) == jax.tree.structure(state.batch_stats)


@pytest.mark.parametrize("averaged", [True, False])
def test_the_evaluated_weights_get_those_of_train_images(state, averaged, monkeypatch):
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


def test_training_computes_them_before_it_saves_and_validates(tmp_path, monkeypatch):
    synthetic.write_faces(tmp_path / "faces", 60, seed=0, size=32)
    config = config_lib.default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.update(source=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache"), image_size=32)
    config.update(
        {"num_steps": 4, "log": {"figures": False}, "eval": {"bn_batches": 1}, "checkpoint": {"every_steps": 1}}
    )
    seen = []

    def marked(config, dataset, state):
        seen.append(int(state.step))
        return state.replace(params=jax.tree.map(lambda x: x * 0 + 0.5, state.params))

    monkeypatch.setattr(batch_statistics, "reestimate", marked)
    monkeypatch.setattr(
        train.Validator,
        "__call__",
        lambda self, step, state: seen.append(float(jax.tree.leaves(state.params)[0].max())),
    )
    monkeypatch.setattr(train.final_test, "test", lambda *args: None)
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert seen == [3, 0.5, 4, 0.5]  # an epoch has three steps
