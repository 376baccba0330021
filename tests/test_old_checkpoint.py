"""A checkpoint written by version 0.1.0 still loads and gives the same predictions."""

import pathlib
import tarfile

import numpy as np
import pytest

import agegender_jax
from agegender_jax import ensemble

RUN = pathlib.Path(__file__).parent / "data" / "run_0.1.0.tar.gz"  # ResNet-18, width 1/64, with a moving average
# of version 0.1.0, for the images below
AGE_0 = [0.08414954, 0.08296838, 0.07389951, 0.08954186, 0.08657596, 0.08636528]
GENDER = [[0.49324882, 0.50675118], [0.4916262, 0.5083738], [0.47746193, 0.52253807], [0.48755634, 0.51244366]]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(RUN) as archive:
        archive.extractall(folder, filter="data")
    return folder / "resnet18-ema"


def test_a_checkpoint_of_version_0_1_0_predicts_as_it_did(workdir):
    model, variables, config = agegender_jax.load(workdir)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    probs = ensemble.predict(model, variables, images)
    assert config["model"]["name"] == "resnet18"
    np.testing.assert_allclose(probs.age[0, :6], AGE_0, atol=2e-6)
    np.testing.assert_allclose(probs.gender, GENDER, atol=2e-6)
