import importlib

import pytest

from agegender_jax import config as config_lib
from agegender_jax import models
from agegender_jax.errors import ConfigError

SHIPPED = [
    ("ran", "", "ran56"),
    ("ran", "92", "ran92"),
    ("ran", "92,paper", "ran92"),
    ("resnet", "", "resnet18"),
    ("resnet", "34", "resnet34"),
    ("resnet", "50,paper", "resnet50"),
    ("quickstart", "ran", "ran56"),
    ("quickstart", "resnet", "resnet18"),
    ("best", "", "resnet18"),
    ("best", "resnet,gpu", "resnet18"),
    ("best", "ran,cpu", "ran56"),
]


@pytest.mark.parametrize("name, variant, net", SHIPPED)
def test_shipped_configs_are_valid_locked_and_name_their_net(name, variant, net):
    config = importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)
    config_lib.validate(config)
    assert config.model.name == net and config.is_locked
    assert (config.optimizer.schedule == "constant") == ("paper" in variant)


def test_choices_are_those_of_the_library():
    assert config_lib.CHOICES["model.name"] == models.list()


def test_every_field_is_in_the_table():
    text = config_lib.fields_help()
    for name, _ in config_lib.flat(config_lib.default()):
        assert name in text, name


@pytest.mark.parametrize(
    "name, value", [("seed", True), ("seed", 1.5), ("parallel", "mesh"), ("model.width", 0), ("data.max_bad", 1.1)]
)
def test_impossible_values_are_refused(name, value):
    config = config_lib.default()
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError, match=name):
        config_lib.validate(config)


def test_nan_is_refused():
    config = config_lib.default()
    config.optimizer.lr = float("nan")
    with pytest.raises(ConfigError, match="optimizer.lr"):
        config_lib.validate(config)


def test_a_resume_may_change_length_workers_and_intervals_only():
    old, new = config_lib.default().to_dict(), config_lib.default().to_dict()
    new["num_epochs"], new["parallel"], new["data"]["num_workers"], new["log"]["every_steps"] = 5, "pmap", 1, 3
    assert config_lib.resume_difference(old, new) == []
    del old["model"]["attention"]  # a run from before that field had its default
    assert config_lib.resume_difference(old, new) == []
    new["model"]["width"] = 0.5
    assert config_lib.resume_difference(old, new) == ["model.width: 1.0 -> 0.5"]
