"""Checks of sizes: the batch against the devices, its parts and the data."""

import types

import jax
import numpy as np
import pytest
import tiny_runs

from agegender_jax import models
from agegender_jax.config import default
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run import checks, train
from agegender_jax.run.workdir import Workdir

CRITIC = {"model.name": "frequency_critic", "model.gender_to_age": "none"}


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
        ({"batch_size": 8, "model.gender_to_age": "shuffled"}, "a shuffled feed needs at least two images"),
        ({"model.gender_to_age": "shuffled", "augment.mixup": 0.2}, "with mixup four, on each device"),
        ({"eval.batch_size": 1, "model.gender_to_age": "shuffled"}, "a shuffled feed needs at least two images"),
        ({"batch_size": 8, "accumulate": 8, **CRITIC}, "BatchNorm cannot learn statistics from one image at a time"),
        ({"batch_size": 16, **CRITIC, "augment.mixup": 0.2}, "augment.mixup has no effect"),
        ({"data.exclude": "s3://bucket/list.csv"}, "is a URL"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_any_data_are_read(changes, message):
    with pytest.raises(ConfigError, match=message):
        checks.before_data(config_with(changes))


@pytest.mark.parametrize(
    "system, changes",
    [
        ("resnet18", {"elm.scale": 1.0}),
        ("resnet18", {"elm.joint_lr": 0.1}),
        ("elm", {"elm.joint_lr": 0.1}),
        ("ridge", {"elm.scale": 1.0}),
        ("elm", {"optimizer.freeze": 1}),
        ("ridge", {"optimizer.layer_decay": 0.5}),
        ("ridge", {"optimizer.rates": "*/bias:2"}),
        ("region_sift", {"augment.mixup": 0.2}),
        ("region_sift", {"loss.age_weight": 0.0}),
        ("elm", {"loss.gender_weight": 0.0}),
        ("local_dnn", {"optimizer.freeze": 5}),
        ("frequency_critic", {"optimizer.layer_decay": 0.5}),
        ("frequency_critic", {"augment.mixup": 0.2}),
        ("deep_attention", {"optimizer.freeze": 1}),
        ("deep_attention", {"optimizer.layer_decay": 0.5}),
    ],
)
def test_fields_without_effect_are_refused(system, changes):
    (field,) = changes
    is_head = system in models.SOLVED
    config = config_with(changes | ({"model.head": system} if is_head else {"model.name": system}))
    with pytest.raises(ConfigError, match=f"{field} has no effect") as raised:
        checks.options(config)
    assert field in raised.value.where
    lacking = {name: default for name, (_, default) in checks.lacking(config).items()}
    config.update_from_flattened_dict(lacking)
    checks.options(config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"elm.scale": 1.0, "elm.joint_lr": 0.1, "elm.rounds": 1, "model.head": "elm", "loss.age_weight": 0.5},
        {"optimizer.freeze": 5, "model.name": "deep_attention", "optimizer.rates": "*/bias:2"},
        {"augment.mixup": 0.2, "model.name": "frequency_critic", "model.critics": "none"},
        {"optimizer.freeze": 1, "optimizer.layer_decay": 0.5, "loss.age_weight": 0.0, "augment.mixup": 0.2},
    ],
)
def test_fields_with_an_effect_are_accepted(changes):
    checks.options(config_with(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2},
        {"augment.mixup": 0.2},
        {"accumulate": 3, "batch_size": 48, "augment.mixup": 0.2},
        {"eval.batch_size": 2, "model.gender_to_age": "shuffled"},
        {"batch_size": 32, "model.gender_to_age": "shuffled", "augment.mixup": 0.2},
    ],
)
def test_the_smallest_sizes_that_fit_are_accepted(changes):
    checks.before_data(config_with(changes))


def test_a_batch_may_be_the_whole_train_split_but_not_more():
    dataset = types.SimpleNamespace(indices=lambda split: np.arange(16 if split == "train" else 99))
    checks.batch_fits(dataset, config_with({"batch_size": 16}))
    with pytest.raises(DataError, match="batch_size 24 is larger than the train split of 16 images"):
        checks.batch_fits(dataset, config_with({"batch_size": 24}))


def test_a_run_that_ended_before_its_first_checkpoint_may_take_another_config(tmp_path):
    """As the error about a loss that is not finite, or about too little memory, advises."""
    run, config = Workdir(tmp_path), default()
    run.write_config(config.to_dict())
    config.optimizer.lr = 0.001
    assert not checks.same_run(run, config)
    (run.checkpoints / "5").mkdir(parents=True)
    with pytest.raises(ConfigError, match="another config: optimizer.lr: 0.005 -> 0.001"):
        checks.same_run(run, config)


def test_five_images_are_trained_with_warnings(tmp_path):
    config, warnings = tiny_runs.make_config(tmp_path, 5), []
    config.batch_size = 4
    progress = types.SimpleNamespace(prepare=None, warn=warnings.append)
    dataset = train.prepare_dataset(config, Workdir(tmp_path / "run"), progress)
    assert [warning.partition(",")[0] for warning in warnings] == ["the val split is empty", "the test split is empty"]
    assert len(dataset.indices("train")) == 5
