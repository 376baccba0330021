"""Dense nets on patches and on an edge map, after Zhang and Xu 2018."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import data, models
from agegender_jax.models import initializers, local_dnn
from agegender_jax.models.grey import grey

DRAW = np.random.default_rng(0)


def test_edges_of_a_constant_image_are_zero_with_finite_gradient():
    flat = jnp.full((1, 48, 48), 7.0)
    np.testing.assert_array_equal(local_dnn.edge_map(flat), 0)
    assert np.isfinite(jax.grad(lambda x: local_dnn.edge_map(x).sum())(flat)).all()
    ramp = jnp.broadcast_to(jnp.arange(48.0), (1, 48, 48))
    assert local_dnn.edge_map(ramp).reshape(48, 48)[20, 20] == pytest.approx(8 / 255, rel=1e-2)


def test_patches_of_the_landmarks():
    y, x = np.mgrid[:100, :100]
    image = jnp.float32(x + 100 * y)[None]
    inputs = np.asarray(local_dnn.all_patches(image, "five"))
    assert inputs.shape == (1, 25, 578)
    np.testing.assert_allclose(inputs[0, 0, -2:], [2 * 0.28 - 1, 2 * 0.30 - 1], atol=1e-6)  # the left eye, rounded
    own = np.asarray(image)[0, 30 - 12 : 30 + 12, 28 - 12 : 28 + 12]
    np.testing.assert_allclose(inputs[0, 0, :576], ((own - own.mean()) / (own.std() + 5)).ravel(), atol=1e-4)


@pytest.mark.parametrize("points", ["five", "nine"])
def test_every_patch_is_cut_around_its_point_with_edges_repeated(points):
    """The nine patches reach beyond the image."""
    positions, side, down = local_dnn.POINTS[points]
    image = DRAW.uniform(0, 255, (100, 100)).astype(np.float32)
    padded = np.pad(image, 50, mode="edge")
    actual = np.asarray(local_dnn.all_patches(jnp.asarray(image)[None], points))[0]
    centres = [np.round(np.array(p) * 100).astype(int) + d for p in positions for d in local_dnn.OFFSETS]
    assert len(actual) == len(centres)
    for row, (x, y) in zip(actual, centres, strict=True):
        y0, x0 = y + 50 - side // 2, x + 50 - side // 2
        cut = padded[y0 : y0 + side, x0 : x0 + side]
        cut = cut.reshape(side // down, down, side // down, down).mean((1, 3))
        np.testing.assert_allclose(row[:-2], ((cut - cut.mean()) / (cut.std() + 5)).ravel(), atol=1e-4)
        np.testing.assert_allclose(row[-2:], [2 * x / 100 - 1, 2 * y / 100 - 1], atol=1e-6)


def test_a_patch_is_mirrored_with_its_location():
    net = models.build("local_dnn", num_age_classes=12, gender_to_age="none", edges=False)
    image = jnp.broadcast_to(jnp.arange(100.0), (64, 100, 100))
    inputs = np.asarray(net._draw(image, jax.random.key(0)))
    slope = inputs[:, 1] - inputs[:, 0]
    left_to_right = inputs[slope > 0]
    mirrored = inputs[slope < 0]
    assert 16 < len(mirrored) < 48
    points = np.array(local_dnn.POINTS["five"][0])
    for rows, xs in ((left_to_right, points[:, 0]), (mirrored, 1 - points[:, 0])):
        location = (rows[:, -2] + 1) / 2
        assert (np.abs(location[:, None] - xs).min(1) <= 0.0551).all()


def test_the_prediction_of_the_local_net_is_a_mean_of_posteriors():
    net = models.build("local_dnn", num_age_classes=12, gender_to_age="none")
    images = data.normalize(DRAW.integers(0, 256, (2, 40, 40, 3)).astype(np.uint8))
    variables = initializers.init(net, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32))
    outputs = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images)
    np.testing.assert_allclose(np.exp(outputs.age_logits).sum(1), 1, rtol=1e-5)
    params = variables["params"]
    inputs = local_dnn.all_patches(grey(images, 100), "five")
    stack = local_dnn.Stack(12)
    apply = jax.jit(lambda params, x: stack.apply({"params": params}, x, train=False))
    patches = [jax.nn.softmax(apply(params["local"], x)[1]).mean(0) for x in inputs]
    edges = apply(params["edges"], local_dnn.edge_map(grey(images, 48)))
    expected = (np.stack(patches) + jax.nn.softmax(edges[1])) / 2
    np.testing.assert_allclose(np.exp(outputs.gender_logits), expected, rtol=1e-4)
    elsewhere = apply(params["local"], inputs[0].at[:, -2:].set(0))[0]
    assert np.abs(elsewhere - apply(params["local"], inputs[0])[0]).max() > 0
