"""The figure of attention masks."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_attributions import random_variable

from agegender_jax import models
from agegender_jax.models.agegender import AgeGenderNet
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.run.scoring import attention_figure

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    body = ResidualAttentionNet((2,), channels=(32,), depths=(1,), final_units=0, stem_channels=8, width=0.25)
    model = AgeGenderNet(body, 12, gender_to_age="true")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    return model, jax.tree_util.tree_map_with_path(random_variable, shapes)


def test_the_figure_has_a_row_per_module(net):
    model, variables = net
    png = attention_figure.draw(model, variables, list(PICTURES), ["a", "b"], 32)
    width, height = Image.open(io.BytesIO(png)).size
    assert (
        width == 2 * (attention_figure.SIDE + 8) + 8 and 3 * attention_figure.SIDE < height < 4 * attention_figure.SIDE
    )


def test_nets_without_masks_are_recognised():
    assert attention_figure.has_masks(models.build("ran92_cifar", num_age_classes=12))
    assert not attention_figure.has_masks(models.build("resnet18", num_age_classes=12))
    assert not attention_figure.has_masks(models.build("ran56", num_age_classes=12, learning="none"))
    assert not attention_figure.has_masks(models.build("levi_hassner", num_age_classes=12))
