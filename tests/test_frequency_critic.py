"""Frequency critics after Lee et al. 2018: bands, sizes, controls, and which gradients reach which net."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_models import shapes_of

from agegender_jax import models, parallel, training
from agegender_jax.models import frequency_critic, initializers
from agegender_jax.structs import Batch

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_labels_of_generated_images_do_not_depend_on_the_number_of_devices(devices):
    parts = [frequency_critic.half_changed(part) for part in np.split(np.arange(8), devices)]
    np.testing.assert_array_equal(np.concatenate(parts), [1, 1, 3, 3, 5, 5, 7, 7])


def test_masks_of_frequency_bands():
    image = jnp.float32(DRAW.standard_normal((2, 64, 64)))
    edges = (0, 6, 12, 24, 99)
    parts = [frequency_critic.band_pass(image, *band) for band in zip(edges, edges[1:], strict=False)]
    np.testing.assert_allclose(sum(parts), image, atol=1e-5)
    inside = frequency_critic.band_mask(64, 6, 16)
    assert set(np.unique(inside[np.isin(inside, (0, 1))])) == {0, 1} and 0 < inside.mean() < 1
    assert inside[0, 3] == 0 and inside[0, 10] == 1 and inside[0, 20] == 0
    grating = np.sin(2 * np.pi * 3 * np.arange(64) / 64)[None, None].astype(np.float32)
    low, high = frequency_critic.BANDS["age"]
    np.testing.assert_allclose(
        frequency_critic.band_pass(image + 50 * grating, low, high),
        frequency_critic.band_pass(image, low, high),
        atol=1e-3,
    )


def test_a_sharp_band_applied_twice_is_the_band(monkeypatch):
    monkeypatch.setattr(frequency_critic, "EDGE", 1e-9)
    band = (6.1, 16.3)
    assert set(np.unique(frequency_critic.band_mask(64, *band))) == {0, 1}
    once = frequency_critic.band_pass(jnp.float32(DRAW.standard_normal((1, 64, 64))), *band)
    np.testing.assert_allclose(frequency_critic.band_pass(once, *band), once, atol=1e-5)


def test_sizes_of_the_frequency_critics_nets():
    shapes = shapes_of(models.build("frequency_critic", num_age_classes=12, gender_to_age="none"), 64)["params"]
    sizes_of = {name: sum(leaf.size for leaf in jax.tree.leaves(shapes[name])) for name in shapes}
    assert sizes_of["encoder"] == 690_144 + 524_416 and sizes_of["generator"] == 585_728 + 388_163
    assert sizes_of["age_critic"] == sizes_of["gender_critic"] == 45_425


def test_controls_of_the_frequency_critic():
    own = {"num_age_classes": 12, "gender_to_age": "none"}
    alone = shapes_of(models.build("frequency_critic", critics="none", **own), 64)["params"]
    assert set(alone) == {"classifier", "age_head", "gender_head"}
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    for critics, in_bands in (("frequency", True), ("pixels", False)):
        net = models.build("frequency_critic", critics=critics, **own).bind({})
        for critic in (net.age_critic, net.gender_critic):
            bands = jax.make_jaxpr(lambda x, critic=critic: critic.clone(parent=None).init(jax.random.key(0), x))(
                images
            )
            assert ("fft" in str(bands)) == in_bands


class SmallCritic(frequency_critic.FrequencyCritic):
    """FrequencyCritic without generator, and with one dense unit for its classifier."""

    def setup(self):
        self.classifier = Unit()
        self.age_head, self.gender_head = nn.Dense(self.num_age_classes), nn.Dense(2)

    def _create(self, features):
        pass


class Unit(nn.Module):
    def attend(self, images, *, train):
        return self.unit(images.mean((1, 2))), ()

    def setup(self):
        self.unit = nn.Dense(1)


def test_each_head_changes_on_its_own_steps_only():
    net = SmallCritic(12, critics="none")
    tx = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1))
    key, size = jax.random.key(0), 4
    step = functools.partial(
        training.train_step, model=net, tx=tx, key=key, prepare_images=lambda keys, x: x / jnp.float32(255)
    )
    batch = Batch(
        image=np.uint8(DRAW.integers(0, 256, (4, size, size, 3))),
        age=np.arange(4, dtype=np.int32)[:, None].repeat(2, 1),
        gender=np.arange(4, dtype=np.int32) % 2,
        mask=np.ones(4, np.float32),
    )
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    states = [jax.tree.map(np.array, training.init_state(net, tx, key, size))]
    for _ in range(4):
        states.append(jax.tree.map(np.array, driver.step(states[-1], batch)))

    def changed(name, *states):
        """Return of each parameter and moment of a module whether it differs."""
        leaves = [jax.tree_util.tree_leaves_with_path((state.params, state.opt_state)) for state in states]
        pairs = [(a, b) for (path, a), (_, b) in zip(*leaves, strict=True) if name in jax.tree_util.keystr(path)]
        return [bool((a != b).any()) for a, b in pairs]

    for number, pair in enumerate(itertools.pairwise(states)):
        own, other = ("age_head", "gender_head")[:: 1 - 2 * (number % 2)]
        assert all(changed(own, *pair)) and all(changed("classifier", *pair))
        assert not any(changed(other, *pair))


@pytest.mark.parametrize("alternate", [True, False])
def test_the_classifier_learns_from_the_head_of_the_step(alternate):
    """Also without labels, as where BatchNorm statistics are computed again."""
    net, images = SmallCritic(12, alternate=alternate), jnp.ones((1, 4, 4, 3))
    variables = initializers.init(net, jax.random.key(0), images)
    for step, own in enumerate(("age_logits", "gender_logits")):
        for head in ("age_logits", "gender_logits"):
            gradients = jax.grad(
                lambda v, step=step, head=head: getattr(net.apply(v, images, train=True, step=step), head)[0, 0]
            )
            size = np.abs(gradients(variables)["params"]["classifier"]["unit"]["kernel"]).max()
            assert (size > 0) == (head == own or not alternate)


LABELS = {"age": jnp.array([0, 1, 2, 3]), "gender": jnp.array([0, 1, 0, 1])}


@pytest.fixture(scope="module")
def frequency_net():
    """Return the net, four images and its variables."""
    net = models.build("frequency_critic", num_age_classes=12, gender_to_age="none")
    images = jnp.float32(DRAW.standard_normal((4, 64, 64, 3)))
    return net, images, initializers.init(net, jax.random.key(0), images)


@pytest.mark.slow
def test_generated_images_and_running_statistics_do_not_meet(frequency_net):
    """The running statistics are those of real images; generated ones are judged with statistics of their own."""
    net, images, variables = frequency_net

    @jax.jit
    def forward(scale):
        statistics = jax.tree.map(lambda x: scale * x, variables["batch_stats"])
        options = {"train": True, "mutable": ["batch_stats"]}
        apply = functools.partial(net.apply, variables | {"batch_stats": statistics}, images, **options)
        (outputs, updated), (_, alone) = apply(**LABELS), apply()
        return outputs.penalty, updated, alone

    penalty, updated, alone = forward(1.0)
    jax.tree.map(np.testing.assert_array_equal, updated, alone)
    assert forward(9.0)[0] == penalty


@pytest.mark.slow
def test_the_prediction_is_that_of_the_plain_classifier(frequency_net):
    net, images, variables = frequency_net
    plain = models.build("resnet18", num_age_classes=12, gender_to_age="none", width=frequency_critic.WIDTH)
    params = variables["params"]
    own = {"backbone": params["classifier"]} | {name: params[name] for name in ("age_head", "gender_head")}
    statistics = {"backbone": variables["batch_stats"]["classifier"]}
    outputs = jax.jit(functools.partial(net.apply, train=False))(variables, images)
    expected = jax.jit(functools.partial(plain.apply, train=False))({"params": own, "batch_stats": statistics}, images)
    np.testing.assert_array_equal(outputs.age_logits, expected.age_logits)
    np.testing.assert_array_equal(outputs.gender_logits, expected.gender_logits)


@pytest.mark.slow
def test_the_generators_loss_has_no_gradient_in_the_discriminator(frequency_net, monkeypatch):
    net, images, variables = frequency_net
    monkeypatch.setattr(frequency_critic, "REAL", 0.0)  # without the discriminator's own losses
    monkeypatch.setattr(frequency_critic, "LABELS", 0.0)

    @jax.jit
    def gradients(params):
        options = {"train": True, "mutable": ["batch_stats"]}
        return jax.grad(lambda p: net.apply(variables | {"params": p}, images, **options, **LABELS)[0].penalty)(params)

    largest = jax.tree.map(lambda g: float(jnp.abs(g).max()), gradients(variables["params"]))
    for name in ("classifier", "age_head", "gender_head", "real"):
        assert max(jax.tree.leaves(largest[name])) == 0, name
    assert min(jax.tree.leaves(largest["generator"])) > 0


@pytest.mark.slow
def test_gradients_of_the_frequency_critic_stay_in_their_nets(frequency_net):
    net, images, variables = frequency_net

    @jax.jit
    def sizes_of_gradients(weights, step):
        def loss(params):
            options = {"train": True, "mutable": ["batch_stats"], "step": step}
            outputs = net.apply(variables | {"params": params}, images, **options, **LABELS)[0]
            return weights[0] * outputs.penalty + weights[1] * (outputs.age_logits.sum() + outputs.gender_logits.sum())

        return jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(variables["params"]))

    def gradients(weights, step):
        gradient_sizes = sizes_of_gradients(jnp.array(weights), step)
        return {name: max(float(size) for size in jax.tree.leaves(gradient_sizes[name])) for name in gradient_sizes}

    for step, (own, other) in enumerate((("age_head", "gender_head"), ("gender_head", "age_head"))):
        penalty = gradients([1.0, 0.0], step)
        assert penalty.pop(other) == 0 and all(size > 0 for size in penalty.values()), penalty
        labels_alone = gradients([0.0, 1.0], step)
        assert labels_alone[own] > 0 and labels_alone["classifier"] > 0
        assert labels_alone[other] == labels_alone["generator"] == labels_alone["age_critic"] == 0


@pytest.mark.slow
def test_fifty_steps_stay_finite(frequency_net):
    net, images, _ = frequency_net
    tx, key = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)), jax.random.key(0)
    step = functools.partial(
        training.train_step, model=net, tx=tx, key=key, prepare_images=lambda keys, x: x / 64 - 2.0
    )
    labels = {"age": np.arange(4, dtype=np.int32)[:, None].repeat(2, 1), "gender": np.arange(4, dtype=np.int32) % 2}
    pixels = np.uint8(DRAW.integers(0, 256, images.shape))
    batch = Batch(image=pixels, mask=np.ones(4, np.float32), **labels)
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    state = driver.replicate(training.init_state(net, tx, key, 64))
    for _ in range(50):
        state = driver.step(state, batch)
    assert int(state.step) == 50
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.batch_stats, state.sums)))
