"""Views of an image, each by itself, and predictions averaged over them."""

import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from agegender_jax import config as config_lib
from agegender_jax import ensemble
from agegender_jax.data.views import VIEWS, views
from agegender_jax.run.scoring import split_predictions
from agegender_jax.structs import Batch, Outputs

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)


def expected(image, mirror, down, right):
    """Pixel by pixel; 4 % of 32 rows is one pixel."""
    out = np.empty_like(image)
    for y in range(32):
        for x in range(40):
            row, column = min(max(y + down, 0), 31), min(max(x + right, 0), 39)
            out[y, x] = image[row, 39 - column if mirror else column]
    return out


def test_views_are_the_image_mirrored_and_shifted():
    result = [np.asarray(view) for view in views(IMAGES, "flip_shift")]
    offsets = [(m, y, x) for y, x in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)) for m in (False, True)]
    assert len(result) == len(offsets) == 10
    for view, offset in zip(result, offsets, strict=True):
        np.testing.assert_array_equal(view, [expected(image, *offset) for image in IMAGES])
    np.testing.assert_array_equal(views(IMAGES, "flip"), result[:2])
    np.testing.assert_array_equal(views(IMAGES, "none"), result[:1])
    assert result[0].dtype == np.uint8


def test_the_choices_of_the_config_are_the_views():
    assert config_lib.CHOICES["eval.views"] == tuple(VIEWS)


class Corner(nn.Module):
    """Logits from the upper left pixel, so that every view gives different ones."""

    @nn.compact
    def __call__(self, images, *, train):
        return Outputs(nn.Dense(12, name="age")(images[:, 0, 0]), nn.Dense(2, name="gender")(images[:, 0, 0]))


@pytest.mark.parametrize("devices", [None, 2])
def test_probabilities_are_averaged_over_the_views(devices):
    batch = Batch(np.concatenate([IMAGES, IMAGES[:1]]), None, np.zeros(4, np.int32), np.array([1, 1, 1, 0], np.float32))
    variables = Corner().init(jax.random.key(0), IMAGES.astype(np.float32), train=False)
    devices = jax.devices()[:devices] if devices else None
    probs = ensemble.predict_all(Corner(), variables, [batch], devices=devices, views="flip_shift")
    parts = [ensemble.predict(Corner(), variables, np.asarray(view)) for view in views(IMAGES, "flip_shift")]
    np.testing.assert_allclose(probs.age, np.mean([part.age for part in parts], 0), atol=1e-6)
    np.testing.assert_allclose(probs.gender, np.mean([part.gender for part in parts], 0), atol=1e-6)
    assert len(probs.age) == 3 and np.abs(probs.age - parts[0].age).max() > 0.01
    plain = ensemble.predict_all(Corner(), variables, [batch], devices=devices)
    np.testing.assert_array_equal(plain.age, parts[0].age)


@pytest.mark.parametrize(
    "fields, calls, used", [({}, None, "none"), ({"views": "flip"}, None, "flip"), ({}, "flip", "flip")]
)
def test_a_run_is_predicted_with_its_own_views_unless_others_are_requested(fields, calls, used, monkeypatch):
    seen = []
    config = {"model": {}, "data": {"image_size": 32}, "eval": {"batch_size": 2} | fields}
    trained = (None, {"params": {}}, config, 7)
    monkeypatch.setattr(split_predictions.loading, "load_checkpoint", lambda *_: trained)
    monkeypatch.setattr(
        split_predictions.models, "from_config", lambda fields: types.SimpleNamespace(gender_to_age="none")
    )
    monkeypatch.setattr(split_predictions.ensemble, "predict_all", lambda *_, views, **__: seen.append(views))
    monkeypatch.setattr(split_predictions.calibration, "read", lambda folder: None)
    monkeypatch.setattr(split_predictions.calibration, "apply", lambda fitted, raw, *_: raw)
    faces = types.SimpleNamespace(indices=lambda split: np.arange(2), eval_batches=lambda *_: iter(()))
    progress = types.SimpleNamespace(warn=None, note=None, prepare=None, stop=None)
    run = types.SimpleNamespace(path=None, argument="run")
    assert split_predictions.predict_member(run, "best", faces, "val", "run", progress, views=calls).step == 7
    assert seen == [used]
