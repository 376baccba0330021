"""Dropout, stochastic depth and mixup in the training step, on nets of a few numbers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agegender_jax import config as config_lib
from agegender_jax import losses, models, parallel, training
from agegender_jax.data.augment import mixup, swap_neighbours
from agegender_jax.errors import ConfigError
from agegender_jax.models import layers
from agegender_jax.models.agegender import AgeGenderNet
from agegender_jax.models.preact_unit import PreActUnit
from agegender_jax.models.resnet import Block
from agegender_jax.run import checks, train
from agegender_jax.structs import Batch, Outputs


class Features(nn.Module):
    """The first pixels of an image as its features."""

    def attend(self, images, *, train):
        return images.reshape(len(images), -1)[:, :40], ()


def test_dropout_acts_on_the_features_of_both_heads_only_in_training():
    net = AgeGenderNet(Features(), 12, gender_to_age="none", dropout=0.25)
    images = jnp.ones((200, 4, 4, 3))
    variables = net.init(jax.random.key(0), images, train=False)
    heads = {
        name: {"kernel": jnp.eye(40)[:, :n], "bias": jnp.zeros(n)} for name, n in (("gender_head", 2), ("age_head", 12))
    }
    assert jax.tree.map(jnp.shape, heads) == jax.tree.map(jnp.shape, variables["params"])
    out = net.apply({"params": heads}, images, train=True, rngs={"dropout": jax.random.key(1)})
    values = np.asarray(out.age_logits)
    assert set(np.unique(values.round(5))) == {0.0, np.float32(4 / 3).round(5)}
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(out.gender_logits, values[:, :2])  # the same features are dropped for both
    np.testing.assert_array_equal(net.apply({"params": heads}, images, train=False).age_logits, 1.0)


@pytest.mark.parametrize("kind", ["resnet", "ran"])
def test_stochastic_depth_leaves_out_an_examples_residual_branch(kind):
    block = Block(8, False, drop=0.5) if kind == "resnet" else PreActUnit(8, width=1.0, drop=0.5)
    x = jnp.abs(jax.random.normal(jax.random.key(0), (64, 4, 4, 8)))
    variables = block.init(jax.random.key(1), x, train=False)
    whole = block.clone(drop=0.0).apply(variables, x, train=True, mutable=["batch_stats"])[0]
    out = block.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(2)})[0]
    if kind == "resnet":  # compared where ReLU hides nothing
        seen = np.asarray((whole > 0) & (out > 0))
    else:
        seen = np.ones(x.shape, bool)
    without = np.array([np.abs(np.where(s, o - i, 0)).max() < 1e-5 for s, o, i in zip(seen, out, x, strict=True)])
    doubled = np.array(
        [
            np.abs(np.where(s, o - i - 2 * (w - i), 0)).max() < 1e-4
            for s, o, i, w in zip(seen, out, x, whole, strict=True)
        ]
    )
    assert (without ^ doubled).all() and 16 < without.sum() < 48
    scored = [b.apply(variables, x, train=False) for b in (block, block.clone(drop=0.0))]
    np.testing.assert_array_equal(*scored)


def test_drop_rates_rise_linearly_over_the_blocks():
    assert layers.drop_rates(0.2, 4) == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("name, blocks", [("resnet18", 8), ("ran56", 9), ("ran92_cifar", 12)])
def test_every_residual_block_has_its_rate(name, blocks, monkeypatch):
    rates = []
    monkeypatch.setattr(layers, "drop_branch", lambda x, rate, train: rates.append(rate) or x)
    net = models.build(name, num_age_classes=12, width=1 / 64, stochastic_depth=0.3)
    images = jnp.zeros((1, 32, 32, 3))
    jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
    assert sorted(set(rates) - {0.0}) == pytest.approx(layers.drop_rates(0.3, blocks))
    assert (0.0 in rates) == name.startswith("ran")  # the masks' own units are never left out


def test_a_net_without_residual_branches_refuses_stochastic_depth():
    with pytest.raises(ValueError, match="levi_hassner has no stochastic_depth"):
        models.build("levi_hassner", num_age_classes=12, stochastic_depth=0.1)


class Linear(nn.Module):
    """Both heads linear in the image's mean colour."""

    @nn.compact
    def __call__(self, images, *, train):
        features = images.mean((1, 2))
        return Outputs(nn.Dense(12, name="age")(features), nn.Dense(2, name="gender")(features))


YEARS_LOSS = functools.partial(losses.age_loss, kind="years", spread=0.3)


def one_step(devices, mix, count=16):
    draw = np.random.default_rng(0)
    age = draw.integers(0, 12, (count, 1), dtype=np.int32)
    images = draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    years = draw.integers(0, 110, count, dtype=np.int32)
    gender, mask = draw.integers(0, 2, count, dtype=np.int32), np.ones(count, np.float32)
    batch = Batch(images, np.concatenate([age, age], 1), gender, mask, years)
    model, tx, key = Linear(), optax.sgd(1.0), jax.random.key(5)

    def prepare_images(keys, images):
        return images.astype(jnp.float32) / 255

    options = {"mixup": mix, "label_smoothing": 0.1, "age_loss": YEARS_LOSS, "prepare_images": prepare_images}
    step = functools.partial(training.train_step, model=model, tx=tx, key=key, **options)
    driver = parallel.driver("shard_map", step, jax.devices()[:devices])
    state = training.init_state(model, tx, jax.random.key(0), 4)
    params = jax.tree.map(np.array, state.params)
    after = driver.step(driver.replicate(state), driver.split(batch))
    return batch, model, params, jax.tree.map(np.array, (after.params, after.sums))


def test_mixup_mixes_the_losses_of_both_heads_as_the_images():
    batch, model, params, (_, sums) = one_step(1, 0.5)
    step_key = jax.random.fold_in(jax.random.key(5), 0)
    keys = jax.vmap(lambda i: jax.random.fold_in(step_key, i))(jnp.arange(16))
    images, share = jax.jit(mixup, static_argnums=2)(keys, batch.image.astype(np.float32) / 255, 0.5)
    outputs = model.apply({"params": params}, images, train=True)
    mine, others = (jax.tree.map(f, (batch.age, batch.age_years, batch.gender)) for f in (np.asarray, swap_neighbours))

    def age_loss(age, years, gender):
        return YEARS_LOSS(outputs.age_logits, age, 0.1, years=years)

    def gender_loss(age, years, gender):
        return losses.gender_loss(outputs.gender_logits, gender, 0.1)

    for name, loss in (("loss_age", age_loss), ("loss_gender", gender_loss)):
        own, other = loss(*mine), loss(*others)
        assert sums[name] == pytest.approx(float((share * own + (1 - share) * other).mean()), rel=1e-5)


def test_mixup_does_not_depend_on_the_number_of_devices():
    (one, *_), (eight, *_) = (one_step(devices, 0.5)[3] for devices in (1, 8))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one, eight)


def test_mixup_needs_pairs_on_each_device():
    config = config_lib.default()
    config.augment.mixup, config.batch_size = 0.2, 3 * jax.device_count()
    with pytest.raises(ConfigError, match="even number of images"):
        checks.parts(config)
    config.batch_size = 2 * jax.device_count()
    checks.parts(config)


def test_the_step_of_a_config_has_its_losses_and_mixup(monkeypatch):
    config = config_lib.default()
    config.loss.update(age="ordinal", age_spread=1.5, age_balance=0.5, label_smoothing=0.2)
    config.augment.mixup = 0.3
    config.update({"accumulate": 4, "remat": True})
    monkeypatch.setattr(parallel, "driver", lambda name, step, devices: step)
    age = np.array([[0, 0]] * 9 + [[4, 4]])
    options = train.make_driver(config, None, None, train_age=age).keywords
    assert options["mixup"] == 0.3 and options["label_smoothing"] == 0.2
    assert options["accumulate"] == 4 and options["remat"] is True
    logits, some = jax.random.normal(jax.random.key(0), (2, 12)), jnp.array([[0, 0], [4, 4]])
    expected = losses.age_loss(
        logits, some, 0.2, kind="ordinal", spread=1.5, bucket_weights=losses.bucket_weights(age, 12, 0.5)
    )
    np.testing.assert_array_equal(options["age_loss"](logits, some, 0.2), expected)
    grouped = np.concatenate([age, [[7, 11]]])
    options = train.make_driver(config, None, None, train_age=grouped).keywords
    weights = losses.bucket_weights(grouped, 12, 0.5, open_from=7)
    expected = losses.age_loss(logits, some, 0.2, kind="ordinal", spread=1.5, bucket_weights=weights, open_from=7)
    np.testing.assert_array_equal(options["age_loss"](logits, some, 0.2), expected)
    mixed = train.make_driver(config, None, None, train_age=np.concatenate([grouped, [[8, 8]]])).keywords
    assert mixed["age_loss"].keywords["open_from"] is None  # another label tells its buckets apart
