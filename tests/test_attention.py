import io

import jax
import numpy as np
import pytest
from PIL import Image

from agegender_jax import data, models
from agegender_jax.run import attention

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    model = models.build("ran56", num_age_classes=12, width=0.125, gender_to_age="true")
    images = data.normalize(PICTURES[:, 4:36])
    return model, jax.jit(model.init, static_argnames="train")(jax.random.key(0), images, train=False)


def test_masks_are_the_channel_means_of_what_the_net_returns(net):
    model, variables = net
    apply = jax.jit(model.apply, static_argnames="train")
    outputs = apply(variables, data.normalize(PICTURES[:, 4:36]), train=False, gender=np.zeros(2, int))
    found = attention.masks(model, variables, PICTURES[:, 4:36])
    assert len(found) == len(outputs.attention) == len(attention.modules(variables)) == 3
    for mask, whole in zip(found, outputs.attention, strict=True):
        np.testing.assert_allclose(mask, np.asarray(whole).mean(-1), atol=1e-5)


def test_upsampling_is_linear_between_the_corners():
    mask = np.random.default_rng(0).random((2, 3, 3)).astype(np.float32)
    places = np.linspace(0, 2, 9)
    rows = np.stack([[np.interp(places, range(3), row) for row in one] for one in mask])  # [2, 3, 9]
    both = np.stack([[np.interp(places, range(3), column) for column in one.T] for one in rows]).swapaxes(1, 2)
    np.testing.assert_allclose(attention.upsampled(mask, 9), both, atol=1e-6)


def test_the_figure_is_of_the_nets_view(net):
    model, variables = net
    png = attention.draw(model, variables, list(PICTURES), ["a", "b"], 32)
    width, height = Image.open(io.BytesIO(png)).size
    assert width == 2 * (attention.SIDE + 8) + 8 and height > 4 * attention.SIDE


def test_nets_without_masks_are_known():
    assert attention.has_masks(models.build("ran92_cifar", num_age_classes=12))
    assert not attention.has_masks(models.build("resnet18", num_age_classes=12))
    assert not attention.has_masks(models.build("levi_hassner", num_age_classes=12))
