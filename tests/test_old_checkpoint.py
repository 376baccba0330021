"""A checkpoint written by version 0.1.0 loads, gives the same predictions, and can be resumed."""

import pathlib

import jax
import numpy as np
import programs
import pytest

import agegender_jax
from agegender_jax import ensemble, models, optim
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.config import default
from agegender_jax.run.training import initial_state

RUN = pathlib.Path(__file__).parent / "data" / "run_0.1.0.tar.gz"  # ResNet-18, width 1/64, with a moving average
# of version 0.1.0, for the images below
AGE_0 = [0.08414954, 0.08296838, 0.07389951, 0.08954186, 0.08657596, 0.08636528]
GENDER = [[0.49324882, 0.50675118], [0.4916262, 0.5083738], [0.47746193, 0.52253807], [0.48755634, 0.51244366]]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    programs.unpack(RUN, folder)
    return folder / "resnet18-ema"


def test_a_checkpoint_of_version_0_1_0_predicts_as_it_did(workdir):
    model, variables, config = agegender_jax.load(workdir)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    probs = ensemble.predict(model, variables, images)
    assert config["model"]["name"] == "resnet18"
    np.testing.assert_allclose(probs.age[0, :6], AGE_0, atol=2e-6)
    np.testing.assert_allclose(probs.gender, GENDER, atol=2e-6)


def test_a_resumed_run_of_version_0_1_0_has_the_statistics_of_its_average(workdir):
    _, variables, old = agegender_jax.load(workdir)
    config = default()
    config.update(old)
    model = models.from_config(config.model)
    template = jax.eval_shape(initial_state.initializer(config, model, optim.build(config.optimizer, 4)))
    state, step = Checkpoints(workdir / "checkpoints").restore_latest(template)
    assert step == state.step == 4
    jax.tree.map(np.testing.assert_array_equal, state.ema, variables)
    jax.tree.map(np.testing.assert_array_equal, state.ema["batch_stats"], state.batch_stats)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (state.ema["params"], state.params)), strict=True))
