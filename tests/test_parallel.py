"""One device against many, one process against two, shard_map against pmap."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import programs
import pytest
import tiny_training
from tiny_training import RATE, train

from agegender_jax import parallel


@pytest.fixture(scope="module")
def one_device():
    return train("shard_map", jax.devices()[:1])


def first_gradient(params):
    """What plain SGD applied in the first step."""
    return jax.tree.map(lambda before, after: (before - after) / RATE, params[0], params[1])


def assert_same_training(many, one):
    np.testing.assert_allclose(many[0], one[0], rtol=1e-4)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(first_gradient(one[1])))
    pairs = zip(jax.tree.leaves(first_gradient(many[1])), jax.tree.leaves(first_gradient(one[1])), strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("num_devices", [2, 8])
def test_many_devices_train_like_one(one_device, num_devices):
    assert_same_training(train("shard_map", jax.devices()[:num_devices]), one_device)


def test_gradients_scaled_by_the_number_of_devices_are_noticed(one_device):
    with pytest.raises(AssertionError):
        assert_same_training(train("shard_map", jax.devices()[:2], scale=2.0), one_device)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pmap_and_shard_map_agree_bit_for_bit(optimizer):
    a, b = (train(name, jax.devices()[:2], steps=4, optimizer=optimizer) for name in parallel.NAMES)
    np.testing.assert_array_equal(a[0], b[0])
    jax.tree.map(np.testing.assert_array_equal, a[1][-1], b[1][-1])


@pytest.mark.timeout(300)
def test_two_processes_train_like_one(one_device):
    address = f"localhost:{programs.free_port()}"
    env = programs.environment() | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    program = pathlib.Path(tiny_training.__file__)
    workers = [
        subprocess.Popen([sys.executable, program, address, "2", str(i)], env=env, stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for i, output in enumerate(outputs):
        found = json.loads(output.splitlines()[-1])
        np.testing.assert_allclose(found["shard_map"], one_device[0], rtol=1e-4)
        assert found["pmap"] == found["shard_map"][: len(found["pmap"])]
        assert found["gathered"] == ["first", "second"] and found["shared"] == {"of": 0}
        assert found["broadcast"] == [[1.0, -0.0, 2.5], [7]] and found["largest"] == 130
        assert found["failed"] == ["DataError: what (process 1)", "PeerReportedError: 3"][i]
        np.testing.assert_allclose(found["probs"], answers(None), rtol=1e-5)


@pytest.mark.parametrize("num_devices", [2, 8])
def test_many_devices_answer_like_one(num_devices):
    np.testing.assert_allclose(answers(jax.devices()[:num_devices]), answers(None), rtol=1e-5)


def answers(devices):
    return tiny_training.answers(devices).age.tolist()
