import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agegender_jax import models, optim
from agegender_jax.config import default, paper

CLIPPINGS = (optim.clip_by_global_norm, optax.clip_by_global_norm)


def optimizer(**fields):
    config = default().optimizer
    config.update(**fields)
    return config


@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 1000])
def test_cosine_rises_to_the_peak_and_falls_to_the_final_rate(num_steps):
    config = optimizer(lr=0.005, warmup=0.1, final=0.01)
    rates = np.array([optim.schedule(config, num_steps)(step) for step in range(num_steps + 1)])
    assert rates.max() == pytest.approx(0.005) and (rates > 0).all()
    assert rates.argmax() == round(0.1 * num_steps)
    if num_steps > 3:
        assert rates[-1] == pytest.approx(5e-5, rel=0.01) and rates[0] < 0.005


def test_the_papers_recipe_is_adam_at_a_constant_rate():
    config = default()
    paper(config)
    tx = optim.build(config.optimizer, 100)
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = tx.update({"kernel": jnp.full((2, 2), 1e6)}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.005, rtol=1e-5)  # neither clipped nor warmed up


def test_clipping_bounds_the_global_norm():
    tx = optim.build(optimizer(name="sgd", lr=1.0, schedule="constant", momentum=0.0, clip_norm=1.0), 10)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    updates, _ = tx.update({"a": jnp.full(3, 10.0), "b": jnp.full(4, -10.0)}, tx.init(params), params)
    assert np.sqrt(sum((u**2).sum() for u in updates.values())) == pytest.approx(1.0, rel=1e-5)


def test_weight_decay_shrinks_kernels_and_nothing_else():
    tx = optim.build(optimizer(name="sgd", lr=0.1, schedule="constant", momentum=0.0, weight_decay=0.5), 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}
    updates, _ = tx.update({name: jnp.zeros_like(p) for name, p in params.items()}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_array_equal(updates["bias"], 0.0)
    np.testing.assert_array_equal(updates["scale"], 0.0)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adam_with_weight_decay_is_adamw(decay):
    """The decay is decoupled: it is not divided by the second moment, and it is multiplied by the rate."""
    fields = {"schedule": "constant", "warmup": 0.0, "clip_norm": 0.0}
    own = optim.build(optimizer(name="adam", lr=0.01, weight_decay=decay, **fields), 10)
    reference = optax.adamw(0.01, weight_decay=decay)
    trained = {}
    for name, tx in (("own", own), ("reference", reference)):
        params = {"kernel": jnp.array([[3.0, -2.0], [0.5, 0.1]])}
        state = tx.init(params)
        for step in range(3):
            updates, state = tx.update({"kernel": params["kernel"] ** 2 - step}, state, params)
            params = optax.apply_updates(params, updates)
        trained[name] = params["kernel"]
    np.testing.assert_allclose(trained["own"], trained["reference"], rtol=1e-6)


NET = {
    "backbone": {"conv1": jnp.ones((2, 2)), "layer1_0": {"conv1": jnp.ones((2, 2))}, "layer4_1": jnp.ones((2, 2))},
    "age_head": {"kernel": jnp.ones((2, 2))},
}
PLAIN = {"name": "sgd", "lr": 1.0, "schedule": "constant", "momentum": 0.0, "clip_norm": 0.0}


def first_update(**fields):
    tx = optim.build(optimizer(**PLAIN, **fields), 10)
    updates, _ = tx.update(NET, tx.init(NET), NET)
    return [float(leaf[0, 0]) for leaf in (*jax.tree.leaves(updates["backbone"]), updates["age_head"]["kernel"])]


def test_the_rate_falls_with_the_distance_from_the_heads():
    assert first_update(layer_decay=0.5) == [-(0.5**5), -(0.5**4), -0.5, -1.0]  # conv1, layer1, layer4, heads
    assert first_update() == [-1.0] * 4


def test_frozen_groups_neither_move_nor_decay_nor_count_in_the_norm():
    assert first_update(freeze=2, weight_decay=0.5) == [0.0, 0.0, -1.5, -1.5]
    tx = optim.build(optimizer(**PLAIN | {"clip_norm": 1.0}, freeze=5), 10)
    gradients = jax.tree.map(lambda leaf: 100 * leaf, NET)
    gradients["age_head"]["kernel"] = jnp.full((2, 2), 0.25)  # of norm 0.5
    updates, _ = tx.update(gradients, tx.init(NET), NET)
    np.testing.assert_allclose(updates["age_head"]["kernel"], -0.25)
    np.testing.assert_array_equal(updates["backbone"]["layer4_1"], 0.0)


def test_frozen_parameters_keep_their_bits():
    tx = optim.build(optimizer(freeze=2, weight_decay=0.5), 10)
    params, state = NET, tx.init(NET)
    for _ in range(3):
        updates, state = tx.update(NET, state, params)
        params = optax.apply_updates(params, updates)
    for path in ("conv1", "layer1_0"):
        jax.tree.map(np.testing.assert_array_equal, params["backbone"][path], NET["backbone"][path])
    assert (params["backbone"]["layer4_1"] != NET["backbone"]["layer4_1"]).all()


@pytest.mark.parametrize(
    "net, groups",
    [
        ("resnet18", {"conv1": 0, "bn1": 0, "layer1_0": 1, "layer2_1": 2, "layer3_0": 3, "layer4_1": 4}),
        (
            "ran56",
            {
                "stem_conv": 0,
                "stem_bn": 0,
                "stage1_res": 1,
                "stage2_res": 2,
                "stage3_att1": 3,
                "final_res2": 4,
                "final_bn": 4,
            },
        ),
        ("plain_cnn", {f"{layer}{n}": n - 1 for layer in ("conv", "bn") for n in (1, 2, 3, 4)}),
        ("levi_hassner", {"conv1": 0, "conv2": 1, "conv3": 2, "fc6": 4, "fc7": 4}),
    ],
)
def test_layer_groups_of_the_nets(net, groups):
    model = models.build(net, num_age_classes=12, width=1 / 64)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))["params"]
    result = {name: optim.layer_group(("backbone", name)) for name in params["backbone"]}
    assert result.items() >= groups.items() and set(result.values()) == set(groups.values())
    assert {optim.layer_group((name,)) for name in params if name != "backbone"} == {optim.HEADS}


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_clipping_is_that_of_optax(size):
    grads = {"a": size * jnp.arange(3.0), "b": jnp.float32(size)}
    ours, theirs = (clip(1.0).update(grads, optax.EmptyState())[0] for clip in CLIPPINGS)
    for name in grads:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    states = [jax.tree.structure(clip(1.0).init(grads)) for clip in CLIPPINGS]
    assert states[0] == states[1]  # checkpoints hold them
