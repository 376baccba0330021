"""The nets by name.

`build` gives the whole net, `backbone` the part that turns images into features, `classifier` a net with one head,
`list` what there is.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from agegender_jax.errors import ConfigError
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.models.agegender import CONTROLS, FEEDS, AgeGenderNet, Classifier
from agegender_jax.models.caffe import INITIAL
from agegender_jax.models.caffenet import CaffeNet
from agegender_jax.models.googlenet import GoogLeNet
from agegender_jax.models.levi_hassner import LeviHassner
from agegender_jax.models.ran import ATTENTION, LEARNING, ResidualAttentionNet
from agegender_jax.models.resnet import ResNet
from agegender_jax.models.vgg import VGG

__all__ = [
    "CONTROLS",
    "FEEDS",
    "AgeGenderNet",
    "Classifier",
    "backbone",
    "build",
    "classifier",
    "feed_of",
    "from_config",
    "list",
]

CIFAR = {"channels": (64, 128, 256), "extra_units": 1, "final_units": 0, "stem_channels": 16, "stem": "small"}
BACKBONES: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "ran56": (ResidualAttentionNet, {"modules": (1, 1, 1)}),
    "ran92": (ResidualAttentionNet, {"modules": (1, 2, 3)}),
    "ran56_cifar": (ResidualAttentionNet, {"modules": (1, 1, 1), **CIFAR}),
    "ran92_cifar": (ResidualAttentionNet, {"modules": (2, 2, 2), **CIFAR}),
    "ran128_cifar": (ResidualAttentionNet, {"modules": (3, 3, 3), **CIFAR}),
    "ran164_cifar": (ResidualAttentionNet, {"modules": (4, 4, 4), **CIFAR}),
    "ran236_cifar": (ResidualAttentionNet, {"modules": (6, 6, 6), **CIFAR}),
    "resnet18": (ResNet, {"blocks": (2, 2, 2, 2), "bottleneck": False}),
    "resnet34": (ResNet, {"blocks": (3, 4, 6, 3), "bottleneck": False}),
    "resnet50": (ResNet, {"blocks": (3, 4, 6, 3), "bottleneck": True}),
    "levi_hassner": (LeviHassner, {}),
    "caffenet": (CaffeNet, {}),
    "vgg16": (VGG, {}),
    "googlenet": (GoogLeNet, {}),
}


def list() -> tuple[str, ...]:
    """The names that `build`, `backbone` and `classifier` take."""
    return tuple(BACKBONES)


def backbone(
    name: str,
    *,
    width: float = 1.0,
    stem: str = "default",
    attention: str = "mixed",
    learning: str = "residual",
    stochastic_depth: float = 0.0,
    initial: str = "default",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> nn.Module:
    """A Module: images float32 [B, H, W, 3] -> features float32 [B, F], to put other heads on.

    Args:
      name: one of `list()`.
      width: channel multiplier; channels are multiples of 8.
      stem: "imagenet" (7x7/2 and pooling), "small" (3x3/1: maps four times as wide, about 16 times the work), or
        "default": small for the CIFAR nets, imagenet for the others.
      attention: "mixed", "channel" or "spatial", of Residual Attention Networks.
      learning: "residual" for (1 + mask) * trunk, "naive" for mask * trunk, "none" for the trunk alone, without mask
        branches, of Residual Attention Networks.
      stochastic_depth: chance that the last residual branch is left out in training, of ResNets and Residual
        Attention Networks; see `layers.drop_rates` for the others.
      initial: "paper" or "he", the initial weights of CaffeNet and GoogLeNet; "default" for "he" there, and for the
        only one that the others have.
      dtype: "float32" or "bfloat16", of the convolutions.
      axis_name: the mapped axis over which BatchNorm is synchronised in training.

    Raises:
      ValueError: unknown name or option, an impossible width or dtype, or an option that this net does not have.
    """
    if not 0 < width < float("inf") or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"width must be above 0 and dtype floating, got {width!r} and {dtype!r}")
    kind, table = BACKBONES[_known("net", name, BACKBONES)]
    _known("stem", stem, ("default", "imagenet", "small"))
    _known("attention", attention, ATTENTION)
    _known("learning", learning, LEARNING)
    _known("initial", initial, INITIAL)
    fields: dict[str, Any] = {"width": width, "dtype": jnp.dtype(dtype), "axis_name": axis_name}
    fields |= {"attention": attention, "learning": learning, "stochastic_depth": stochastic_depth} | table
    if stem != "default":
        fields["stem"] = stem
    if initial != "default":
        fields["initial"] = initial
    has = {field.name for field in dataclasses.fields(kind)}
    usual_values = {
        "stem": "imagenet",
        "attention": "mixed",
        "learning": "residual",
        "stochastic_depth": 0,
        "initial": None,
    }
    for option, usual in usual_values.items():
        if option not in has and fields.get(option, usual) != usual:
            raise ValueError(f"{name} has no {option} to choose")
    return kind(**{key: value for key, value in fields.items() if key in has})


def build(
    name: str,
    *,
    num_age_classes: int,
    gender_to_age: str = "probs",
    age_hidden: int = 0,
    dropout: float = 0.0,
    width: float = 1.0,
    stem: str = "default",
    attention: str = "mixed",
    learning: str = "residual",
    stochastic_depth: float = 0.0,
    initial: str = "default",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> AgeGenderNet:
    """The net with both heads; see `AgeGenderNet` and `backbone` for the arguments.

    Raises:
      ValueError: unknown name, feed or option.
    """
    _known("gender_to_age", gender_to_age, FEEDS)
    body = backbone(
        name,
        width=width,
        stem=stem,
        attention=attention,
        learning=learning,
        stochastic_depth=stochastic_depth,
        initial=initial,
        dtype=dtype,
        axis_name=axis_name,
    )
    return AgeGenderNet(body, num_age_classes, gender_to_age, age_hidden, dropout)


def classifier(
    name: str, *, num_classes: int, width: float = 1.0, stem: str = "default", dtype: str = "float32"
) -> Classifier:
    """The net with one head, as it was published; see `backbone` for the other arguments."""
    return Classifier(backbone(name, width=width, stem=stem, dtype=dtype), num_classes)


def feed_of(net: nn.Module) -> str:
    """What the age head of a net is fed; "none" for a module of other people's that does not say."""
    return getattr(net, "gender_to_age", "none")


def _known(what: str, name: str, known: Collection[str]) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return name


def from_config(fields: Mapping[str, Any], axis_name: str | None = None) -> AgeGenderNet:
    """Return the net of a config's `model` group, with the 12 age buckets of this library.

    Args:
      fields: `config.model`, a ConfigDict or a plain dict: `name` and keyword arguments of `build`.
      axis_name: mapped axis over which BatchNorm averages its statistics; None for none.

    Raises:
      ConfigError: an option that this net does not have.
    """
    options = {name: fields[name] for name in fields}
    try:
        return build(options.pop("name"), num_age_classes=NUM_AGE_BUCKETS, axis_name=axis_name, **options)
    except ValueError as error:
        fix = "leave that field at its default, or use another net"
        raise ConfigError(str(error), "--config.model", fix) from error
