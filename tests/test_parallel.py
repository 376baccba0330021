"""One device against many, one process against two, shard_map against pmap."""

import functools
import json
import sys

import forked
import jax
import numpy as np
import programs
import pytest
import small_nets
import tiny_training

from agegender_jax import optim, parallel, training
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import train
from agegender_jax.structs import Batch

BATCH = 16


@functools.cache
def job(net, num_devices, driver="shard_map"):
    """Return the states before and after the command's own training step of a small net, on the host.

    On two devices, it takes a second step. On one device, JAX_DEBUG_NANS is on.
    """
    steps = 2 if num_devices == 2 else 1
    config = small_nets.config(net, parallel=driver)
    config.optimizer.update(name="sgd", lr=0.05, schedule="constant")
    with pytest.MonkeyPatch.context() as monkeypatch, jax.debug_nans(num_devices == 1):
        small_nets.patch(monkeypatch, net)
        return train_steps(config, num_devices, steps)


def train_steps(config, num_devices, steps):
    model = train.build_model(config)
    tx = optim.build(config.optimizer, steps)
    driver = train.make_driver(config, model, tx, jax.devices()[:num_devices])
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), small_nets.SIZE))
    states = [jax.tree.map(np.array, state)]
    for seed in range(steps):
        state = driver.step(state, driver.split(random_batch(seed)))
        states.append(jax.tree.map(np.array, state))
    return states


def random_batch(seed):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, NUM_AGE_BUCKETS, BATCH, dtype=np.int32)
    return Batch(
        image=rng.integers(0, 256, (BATCH, small_nets.SIZE, small_nets.SIZE, 3), dtype=np.uint8),
        age=np.stack([age, age], 1),
        gender=rng.integers(0, 2, BATCH, dtype=np.int32),
        mask=np.ones(BATCH, np.float32),
    )


@pytest.mark.parametrize("net, num_devices", [("resnet18", 2), ("resnet18", 8), ("ran56", 8)])
def test_the_job_takes_the_same_step_on_many_devices_as_on_one(net, num_devices):
    start, one = job(net, 1)
    many = job(net, num_devices)[1]
    assert one.batch_stats
    for actual, expected, before in zip(*(jax.tree.leaves(s.batch_stats) for s in (many, one, start)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
        assert (expected != before).any()
    updates = jax.tree.map(np.subtract, one.params, start.params)
    largest = max(np.abs(update).max() for update in jax.tree.leaves(updates))
    assert largest > 1e-3
    for actual, expected in zip(*(jax.tree.leaves(s.params) for s in (many, one)), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-3 * largest)  # a ReLU may change sides
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), many.sums, one.sums)


def test_pmap_and_shard_map_agree_bit_for_bit():
    jax.tree.map(np.testing.assert_array_equal, job("resnet18", 2, "pmap")[-1], job("resnet18", 2)[-1])


def driven_by(config, driver):
    config.parallel = driver
    return config


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pmap_and_shard_map_agree_bit_for_bit_for_a_whole_net_with_adam():
    config = small_nets.config("resnet18", width=0.25)
    config.optimizer.lr = 0.001
    shard_map, pmap = (train_steps(driven_by(config, name), 2, 8)[-1] for name in parallel.NAMES)
    jax.tree.map(np.testing.assert_array_equal, pmap, shard_map)


@pytest.mark.timeout(300)
def test_two_processes_train_like_one():
    losses = tiny_training.train("shard_map", jax.devices()[:1])
    port, reservation = programs.reserved_port()
    address = f"localhost:{port}"
    env = programs.environment() | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tiny_training", address, "2"]
    workers = [forked.start([*command, str(i)], programs.ROOT, env) for i in range(2)]
    try:
        assert [worker.wait(240) for worker in workers] == [0, 0]
        outputs = [worker.outputs()[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
        reservation.close()
    for i, output in enumerate(outputs):
        result = json.loads(output.splitlines()[-1])
        np.testing.assert_allclose(result["shard_map"], losses, rtol=1e-4)
        assert result["pmap"] == result["shard_map"][: len(result["pmap"])]
        assert result["gathered"] == ["first", "second"] and result["shared"] == {"process": 0}
        assert result["broadcast"] == [[1.0, -0.0, 2.5], [7]] and result["largest"] == 130
        assert result["failed"] == ["DataError: what (process 1)", "PeerReportedError: 3"][i]
        np.testing.assert_allclose(result["probs"], predictions(None), rtol=1e-5)


@pytest.mark.parametrize("name", parallel.NAMES)
def test_a_driver_uses_the_devices_that_it_is_called_with(name):
    devices = jax.devices()[2:4]
    driver = parallel.driver(name, lambda state, batch: state + jax.lax.psum(batch.sum(), parallel.AXIS), devices)
    after = driver.step(driver.replicate(np.float32(1)), driver.split(np.ones((4, 1), np.float32)))
    assert float(after) == 5 and after.devices() == set(devices)


@pytest.mark.parametrize("num_devices", [2, 8])
def test_many_devices_predict_like_one(num_devices):
    np.testing.assert_allclose(predictions(jax.devices()[:num_devices]), predictions(None), rtol=1e-5)


def predictions(devices):
    """Return the ages' probabilities; on the default device, JAX_DEBUG_NANS is on."""
    with jax.debug_nans(devices is None):
        return tiny_training.predict(devices).age.tolist()
