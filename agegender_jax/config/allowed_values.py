"""The values that each setting may have, and the check of a config."""

import math
from typing import Any

from ml_collections import ConfigDict

from agegender_jax.config.defaults import default, flat
from agegender_jax.errors import ConfigError
from agegender_jax.suggestions import nearest

CHOICES = {
    "parallel": ("shard_map", "pmap"),
    "model.name": (
        *("ran56", "ran92", "ran56_cifar", "ran92_cifar", "ran128_cifar", "ran164_cifar", "ran236_cifar"),
        *("resnet18", "resnet34", "resnet50", "levi_hassner", "caffenet", "vgg16", "googlenet"),
        *("deep_attention", "plain_cnn", "local_dnn", "region_sift", "frequency_critic"),
    ),
    "model.gender_to_age": ("probs", "none", "logits", "stop_gradient", "hard", "true", "shuffled"),
    "model.dtype": ("float32", "bfloat16"),
    "model.stem": ("default", "imagenet", "small"),
    "model.attention": ("mixed", "channel", "spatial"),
    "model.learning": ("residual", "naive", "none"),
    "model.initial": ("default", "he", "paper"),
    "model.patches": ("attended", "uniform", "none"),
    "model.trunk": ("small", "vgg16"),
    "model.head": ("softmax", "elm", "ridge"),
    "model.points": ("five", "nine"),
    "model.classifier": ("layered", "flat", "rbf", "lda"),
    "model.critics": ("frequency", "pixels", "none"),
    "optimizer.name": ("adam", "sgd"),
    "optimizer.schedule": ("cosine", "constant"),
    "loss.age": ("ce", "dldl", "ordinal", "mean_variance", "years"),
    "eval.views": ("none", "flip", "flip_shift"),
    "train.on_nonfinite": ("stop", "skip", "rollback"),
}

# Intervals: a round bracket leaves the bound out.
RANGES = {
    "seed": "[0, 4294967295]",
    "batch_size": "[1, inf)",
    "accumulate": "[1, inf)",
    "num_epochs": "[1, 1000000]",
    "num_steps": "[0, 2147483647]",
    "model.width": "[0.015625, 16]",
    "model.age_hidden": "[0, inf)",
    "model.dropout": "[0, 0.95]",
    "model.stochastic_depth": "[0, 0.95]",
    "model.grid": "[1, 32]",
    "model.patch": "[8, 512]",
    "model.low": "[1, 8]",
    "model.top": "[-1024, 1024]",
    "model.elm_hidden": "[1, 20000]",
    "model.support": "[0, inf)",
    "elm.scale": "(0, inf)",
    "elm.rounds": "[0, inf)",
    "elm.joint_lr": "(0, inf)",
    "optimizer.lr": "(0, inf)",
    "optimizer.warmup": "[0, 1)",
    "optimizer.final": "[0, 1]",
    "optimizer.clip_norm": "[0, inf)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.momentum": "[0, 1)",
    "optimizer.ema": "[0, 1)",
    "optimizer.layer_decay": "[0.01, 1]",
    "optimizer.freeze": "[0, 5]",
    "loss.age_weight": "[0, inf)",
    "loss.gender_weight": "[0, inf)",
    "loss.label_smoothing": "[0, 1)",
    "loss.age_spread": "[0.01, 100]",
    "loss.age_balance": "[0, 1]",
    "loss.teacher_weight": "[0, 1]",
    "data.image_size": "[32, 4096]",
    "data.num_workers": "[0, inf)",
    "data.split_seed": "[0, 4294967295]",
    "data.max_bad": "[0, 1)",
    "augment.shift": "[0, 0.5]",
    "augment.colour": "[0, 1]",
    "augment.crop": "[0, 0.95]",
    "augment.expand": "[0, 3]",
    "augment.aspect": "[0, 1]",
    "augment.rotation": "[0, 180]",
    "augment.grey": "[0, 1]",
    "augment.erasing": "[0, 1]",
    "augment.mixup": "[0, 100]",
    "log.every_steps": "[1, inf)",
    "eval.every_epochs": "[1, inf)",
    "eval.batch_size": "[1, inf)",
    "eval.bn_batches": "[0, inf)",
    "checkpoint.every_steps": "[1, inf)",
}


def validate(config: ConfigDict) -> None:
    """Raise ConfigError for the first field that is missing or unknown, or has an impossible value."""
    values, defaults = dict(flat(config)), dict(flat(default()))
    for name in defaults:
        if name not in values:
            raise ConfigError(
                f"the config has no field {name}", "--config", "start from agegender_jax.config.default()"
            )
    for name, value in values.items():
        if name not in defaults:
            raise ConfigError(f"unknown config field {name}", "--config", nearest(name, defaults))
        if not same_kind(value, defaults[name]):
            raise ConfigError(
                f"{name} must be of type {type(defaults[name]).__name__}, got {value!r}",
                f"--config.{name}",
                f"the default is {defaults[name]!r}",
            )
        if name in CHOICES and value not in CHOICES[name]:
            raise ConfigError(f"unknown {name} {value!r}", f"--config.{name}", nearest(value, CHOICES[name]))
        if name in RANGES and (bounds := outside(value, RANGES[name])):
            raise ConfigError(f"{name} must be {bounds}, got {value!r}", f"--config.{name}", f"use a value {bounds}")
    if values["elm.rounds"] and values["model.head"] == "softmax":
        raise ConfigError(
            "elm.rounds needs a solved head", "--config.elm.rounds", "set model.head to elm or ridge, or leave it at 0"
        )
    if values["data.splits"] and values["data.split_seed"] != defaults["data.split_seed"]:
        raise ConfigError(
            "data.splits names the split, so data.split_seed has no effect",
            "--config.data.splits, --config.data.split_seed",
            f"set one of them: data.split_seed is {defaults['data.split_seed']} by default",
        )
    if values["loss.age_weight"] == values["loss.gender_weight"] == 0:
        raise ConfigError(
            "both loss weights are 0, so nothing would be trained",
            "--config.loss.age_weight, --config.loss.gender_weight",
            "give at least one head a weight above 0",
        )


def outside(value: float, interval: str) -> str:
    """Return the interval in words if `value`, which may be NaN, is outside it, else "".

    Args:
      interval: such as "[0, 1)", where a round bracket leaves the bound out.
    """
    low, high = map(float, interval[1:-1].split(", "))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if above and below:
        return ""
    if interval[0] == "[" and interval[-1] == "]":
        return f"between {low:.10g} and {high:.10g}"
    least = f"above {low:.10g}" if interval[0] == "(" else f"at least {low:.10g}"
    if high == math.inf:
        return f"{least} and finite" if value == math.inf else least
    return f"{least} and below {high:.10g}"


def same_kind(value: Any, like: Any) -> bool:
    if isinstance(like, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(like, bool)
    return isinstance(value, (int, float) if isinstance(like, float) else type(like))
