import importlib
import inspect
import math

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
    ("best", "ran,gpu", "ran56"),
    ("four_nets", "", "caffenet"),
    ("four_nets", "googlenet", "googlenet"),
    ("four_nets", "vgg16,paper", "vgg16"),
    ("transfer", "caffenet,head", "caffenet"),
    ("transfer", "vgg16,full", "vgg16"),
    ("progressive", "px96", "resnet18"),
    ("progressive", "ran,px64", "ran56"),
    ("progressive", "ran,px112", "ran56"),
    ("progressive", "ran,px128", "ran56"),
    ("finetune", "", "resnet18"),
    ("finetune", "head", "resnet18"),
    ("cnn_elm", "", "levi_hassner"),
    ("cnn_elm", "ran,ridge", "ran56"),
    ("deep_attention", "", "deep_attention"),
    ("deep_attention", "low", "deep_attention"),
    ("region_sift", "", "region_sift"),
    ("region_sift", "lda", "region_sift"),
    ("local_dnn", "nine,noedges", "local_dnn"),
    ("plain_cnn", "", "plain_cnn"),
    ("frequency_critic", "", "frequency_critic"),
    ("frequency_critic", "pixel,simultaneous", "frequency_critic"),
    ("frequency_critic", "none,simultaneous", "frequency_critic"),
    ("baselines", "quick", "ran56"),
]


@pytest.mark.parametrize("name, variant, net", SHIPPED)
def test_shipped_configs_are_valid_locked_and_name_their_net(name, variant, net):
    config = importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)
    config_lib.validate(config)
    assert config.model.name == net and config.is_locked
    assert (config.optimizer.schedule == "constant") == ("paper" in variant)


@pytest.mark.parametrize("name, variant", [(name, variant) for name, variant, _ in SHIPPED if "," in variant])
def test_the_order_of_variants_makes_no_difference(name, variant):
    get_config = importlib.import_module(f"agegender_jax.configs.{name}").get_config
    assert get_config(variant).to_dict() == get_config(",".join(reversed(variant.split(",")))).to_dict()


@pytest.mark.parametrize(
    "name, variant, group",
    [
        ("best", "ran,gpu,resnet", "ran, resnet"),
        ("best", "cpu,gpu", "cpu, gpu"),
        ("cnn_elm", "ran,caffenet", "levi_hassner, caffenet, resnet18, ran"),
        ("deep_attention", "low,uniform", "paper, uniform, low"),
        ("four_nets", "vgg16,paper,caffenet", "levi_hassner, caffenet, googlenet, vgg16"),
        ("frequency_critic", "pixel,none,simultaneous", "pixel, none"),
        ("local_dnn", "nine,five", "five, nine"),
        ("progressive", "px64,ran,px128", "px64, px96, px112, px128"),
        ("quickstart", "ran,resnet", "ran, resnet"),
        ("region_sift", "rbf,lda", "layered, flat, rbf, lda"),
        ("resnet", "18,50", "18, 34, 50"),
        ("transfer", "faces,head,full", "full, head"),
    ],
)
def test_variants_that_exclude_each_other(name, variant, group):
    with pytest.raises(ConfigError, match="the variants .* and .* exclude each other") as raised:
        importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)
    assert (raised.value.where, raised.value.fix) == ("--config=FILE:VARIANT", f"name one of {group}")


@pytest.mark.parametrize("net", ["ran", "resnet"])
def test_the_gpu_size_of_best_is_full_for_both_nets(net):
    config = importlib.import_module("agegender_jax.configs.best").get_config(f"{net},gpu")
    assert (config.model.width, config.data.image_size, config.model.dtype) == (1.0, 128, "bfloat16")
    assert (config.batch_size, config.optimizer.lr, config.num_epochs) == (256, 0.002, 60)


def test_choices_are_those_of_the_library():
    assert config_lib.CHOICES["model.name"] == (*models.names(), *models.systems())


def test_defaults_of_nets_are_those_of_the_library():
    fields = config_lib.default().model.to_dict()
    options = inspect.signature(models.build).parameters
    assert set(options) == {*fields, "num_age_classes", "axis_name"}
    for function in (models.build, models.backbone):
        parameters = inspect.signature(function).parameters
        defaults = {option: parameter.default for option, parameter in parameters.items() if option in fields}
        assert defaults == {option: fields[option] for option in defaults} | {"name": inspect.Parameter.empty}


def test_every_field_is_in_the_table():
    cells = [line.split("|")[1] for line in config_lib.fields_help().splitlines() if line.startswith("|")]
    rows = [name.strip() for cell in cells for name in cell.split(",")]
    for name, _ in config_lib.flat(config_lib.default()):
        assert name in rows, name


def changed(name, value):
    """Return the default config with one field of any type and value."""
    config = config_lib.default()
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict({name: value})
    return config


INF, NAN = math.inf, math.nan
IMPOSSIBLE = [
    *[("seed", True), ("seed", 1.5), ("seed", -1), ("seed", 2**32), ("deterministic", 1), ("parallel", "mesh")],
    *[("batch_size", 0), ("num_steps", -1), ("model.width", 0), ("model.width", "wide"), ("augment.flip", 0)],
    *[("optimizer.lr", value) for value in (0, 0.0, -1.0, INF, NAN)],
    *[("optimizer.warmup", 1), ("optimizer.momentum", 1.0), ("optimizer.ema", 1), ("optimizer.ema", -0.1)],
    *[("optimizer.clip_norm", INF), ("optimizer.weight_decay", INF), ("optimizer.final", 1.1)],
    *[("loss.label_smoothing", 1), ("loss.age_weight", INF), ("data.max_bad", 1.0), ("data.max_bad", 1.1)],
]


@pytest.mark.parametrize("name, value", IMPOSSIBLE)
def test_impossible_values_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        config_lib.validate(changed(name, value))


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_no_float_field_may_be_infinite_or_nan(value):
    for name, default in config_lib.flat(config_lib.default()):
        if isinstance(default, float):
            with pytest.raises(ConfigError, match=name):
                config_lib.validate(changed(name, value))


def test_every_number_has_a_range():
    for name, default in config_lib.flat(config_lib.default()):
        number = isinstance(default, int | float) and not isinstance(default, bool)
        assert number == (name in config_lib.RANGES), name


@pytest.mark.parametrize(
    "value, interval, text",
    [
        (1, "[0, 1]", ""),
        (0, "[0, 1)", ""),
        (1e-9, "(0, inf)", ""),
        (2, "[0, 1]", "between 0 and 1"),
        (1, "[0, 1)", "at least 0 and below 1"),
        (0, "(0, inf)", "above 0"),
        (-1, "[0, inf)", "at least 0"),
        (INF, "[0, inf)", "at least 0 and finite"),
        (NAN, "(0, inf)", "above 0"),
    ],
)
def test_a_value_outside_an_interval_gives_its_bounds(value, interval, text):
    assert config_lib.outside(value, interval) == text


def test_one_loss_weight_may_be_zero_but_not_both():
    config_lib.validate(changed("loss.age_weight", 0.0))
    config_lib.validate(changed("loss.gender_weight", 0))
    config = changed("loss.age_weight", 0.0)
    config.loss.gender_weight = 0.0
    with pytest.raises(ConfigError, match="both loss weights are 0"):
        config_lib.validate(config)


def test_a_csv_of_splits_and_a_split_seed_exclude_each_other():
    config = changed("data.splits", "runs/ran/splits.csv")
    config_lib.validate(config)
    config.data.split_seed = 1
    with pytest.raises(ConfigError, match="data.split_seed has no effect"):
        config_lib.validate(config)


def test_a_resume_may_change_length_workers_and_intervals_only():
    old, new = config_lib.default().to_dict(), config_lib.default().to_dict()
    new["num_epochs"], new["parallel"], new["data"]["num_workers"], new["log"]["every_steps"] = 5, "pmap", 1, 3
    new["data"]["splits"] = "runs/ran/splits.csv"  # its content is compared where the data are loaded
    assert config_lib.resume_difference(old, new) == []
    del old["model"]["attention"]  # a run from before that field had its default
    assert config_lib.resume_difference(old, new) == []
    new["model"]["width"] = 0.5
    assert config_lib.resume_difference(old, new) == ["model.width: 1.0 -> 0.5"]
