"""Checks of sizes: the batch against the devices, its parts and the data."""

import types

import jax
import numpy as np
import pytest
import tiny_runs

from agegender_jax.config import default
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run import checks, train
from agegender_jax.run.workdir import Workdir


def config_with(changes):
    config = default()
    config.model.name, config.batch_size = "resnet18", 2 * jax.device_count()
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 12}, "batch_size 12 cannot be shared evenly by 8 devices"),
        ({"batch_size": 8, "accumulate": 8}, "BatchNorm cannot learn statistics from one image at a time"),
        ({"accumulate": 4}, "the batch cannot be divided into equal parts"),
        ({"batch_size": 24, "accumulate": 3, "augment.mixup": 0.2}, "mixup needs an even number of images"),
        ({"batch_size": 8, "model.gender_to_age": "shuffled"}, "a shuffled feed needs at least two images a device"),
        ({"eval.batch_size": 1, "model.gender_to_age": "shuffled"}, "a shuffled feed needs at least two images"),
        ({"data.exclude": "s3://bucket/list.csv"}, "is a URL"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_any_data_are_read(changes, message):
    with pytest.raises(ConfigError, match=message):
        checks.before_data(config_with(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2},
        {"augment.mixup": 0.2},
        {"accumulate": 3, "batch_size": 48, "augment.mixup": 0.2},
        {"eval.batch_size": 2, "model.gender_to_age": "shuffled"},
    ],
)
def test_the_smallest_sizes_that_fit_are_accepted(changes):
    checks.before_data(config_with(changes))


def test_a_batch_may_be_the_whole_train_split_but_not_more():
    dataset = types.SimpleNamespace(indices=lambda split: np.arange(16 if split == "train" else 99))
    checks.batch_fits(dataset, config_with({"batch_size": 16}))
    with pytest.raises(DataError, match="batch_size 24 is larger than the train split of 16 images"):
        checks.batch_fits(dataset, config_with({"batch_size": 24}))


def test_five_images_are_trained_with_warnings(tmp_path):
    config, warnings = tiny_runs.make_config(tmp_path, 5), []
    config.batch_size = 4
    progress = types.SimpleNamespace(prepare=None, warn=warnings.append)
    dataset = train.prepare_dataset(config, Workdir(tmp_path / "run"), progress)
    assert [warning.partition(",")[0] for warning in warnings] == ["the val split is empty", "the test split is empty"]
    assert len(dataset.indices("train")) == 5
