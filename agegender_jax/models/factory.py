"""Nets from their names and options."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from agegender_jax.errors import ConfigError
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.models.agegender import FEEDS, AgeGenderNet, Classifier
from agegender_jax.models.attention import ATTENTION, LEARNING
from agegender_jax.models.caffe_layers import INITIAL
from agegender_jax.models.deep_attention import PATCHES, TRUNKS
from agegender_jax.models.elm import ELMNet
from agegender_jax.models.frequency_critic import CRITICS, FrequencyCritic
from agegender_jax.models.local_dnn import POINTS, LocalDNN
from agegender_jax.models.nets import BACKBONES, SYSTEMS
from agegender_jax.models.region_sift import CLASSIFIERS, RegionSift

DTYPES = ("float32", "bfloat16", "float64")
HEADS = ("softmax", "elm", "ridge")
SOLVED = ("elm", "ridge")  # heads that `run.training.solve` fits


def backbone(
    name: str,
    *,
    width: float = 1.0,
    stem: str = "default",
    attention: str = "mixed",
    learning: str = "residual",
    stochastic_depth: float = 0.0,
    initial: str = "default",
    grid: int = 3,
    patch: int = 40,
    low: int = 2,
    patches: str = "attended",
    top: int = 0,
    trunk: str = "small",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> nn.Module:
    """Return a module without heads: images float32 [B, H, W, 3] -> features float32 [B, F].

    Args:
      name: one of `names()`.
      width: channel multiplier; channels are multiples of 8.
      stem: "imagenet" (7x7/2 and pooling), "small" (3x3/1: maps four times as wide, about 16 times the work), or
        "default": small for the CIFAR nets, imagenet for the others.
      attention: "mixed", "channel" or "spatial", of Residual Attention Networks.
      learning: "residual" for (1 + mask) * trunk, "naive" for mask * trunk, "none" for the trunk alone, without mask
        branches, of Residual Attention Networks.
      stochastic_depth: rate at which the last residual branch of a ResNet or Residual Attention Network is dropped in
        training; see `layers.drop_rates` for the other branches.
      initial: initial weights of CaffeNet and GoogLeNet, "paper" or "he"; "default" means "he" there, and is the only
        choice for the other nets.
      grid, patch, low, patches, top, trunk: see `DeepAttention`.
      dtype: "float32" or "bfloat16", of the convolutions; also "float64" where JAX_ENABLE_X64 is set.
      axis_name: the mapped axis over which BatchNorm is synchronised in training.

    Raises:
      ValueError: the name or an option is unknown, the width is impossible, or this net lacks the option.
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be above 0, got {width!r}")
    _known("dtype", dtype if isinstance(dtype, str) else jnp.dtype(dtype).name, DTYPES)
    kind, table = BACKBONES[_known("net", name, BACKBONES)]
    _known("stem", stem, ("default", "imagenet", "small"))
    _known("attention", attention, ATTENTION)
    _known("learning", learning, LEARNING)
    _known("initial", initial, INITIAL)
    _known("patches", patches, PATCHES)
    _known("trunk", trunk, TRUNKS)
    options: dict[str, Any] = {
        "attention": attention,
        "learning": learning,
        "stochastic_depth": stochastic_depth,
        "grid": grid,
        "patch": patch,
        "low": low,
        "patches": patches,
        "top": top,
        "trunk": trunk,
    }
    has = {field.name for field in dataclasses.fields(kind)}
    other = [option for option in _changed(backbone, options) if option not in has]
    other += ["stem"] if "stem" not in has and stem != "default" else []
    other += ["initial"] if "initial" not in has and initial != "default" else []
    if other:
        raise ValueError(f"{name} has no {other[0]} to choose")
    if top and patches == "none":
        raise ValueError("without patches there is no top to choose")
    fields = {"width": width, "dtype": jnp.dtype(dtype), "axis_name": axis_name} | options | table
    fields |= {key: value for key, value in (("stem", stem), ("initial", initial)) if value != "default"}
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
    grid: int = 3,
    patch: int = 40,
    low: int = 2,
    patches: str = "attended",
    top: int = 0,
    trunk: str = "small",
    dtype: str = "float32",
    head: str = "softmax",
    elm_hidden: int = 1000,
    points: str = "five",
    edges: bool = True,
    classifier: str = "layered",
    support: int = 0,
    critics: str = "frequency",
    alternate: bool = True,
    axis_name: str | None = None,
) -> AgeGenderNet | ELMNet | LocalDNN | RegionSift | FrequencyCritic:
    """Return the net with both heads; see `AgeGenderNet` and `backbone` for the arguments.

    Args:
      name: one of `names()` or `systems()`.
      head: "softmax"; "elm" for `ELMNet`; "ridge" for the net of "softmax" with heads solved in closed form
        (`run.training.solve`).
      elm_hidden: number of random units of "elm", and the most that `run.training.solve` uses.
      points, edges: of `LocalDNN`.
      classifier, support: of `RegionSift`.
      critics, alternate: of `FrequencyCritic`.

    Raises:
      ValueError: a name, `gender_to_age` or option is unknown, or this system lacks the option.
    """
    _known("gender_to_age", gender_to_age, FEEDS)
    _known("head", head, HEADS)
    _known("points", points, POINTS)
    _known("classifier", classifier, CLASSIFIERS)
    _known("critics", critics, CRITICS)
    own = {
        "points": points,
        "edges": edges,
        "classifier": classifier,
        "support": support,
        "critics": critics,
        "alternate": alternate,
    }
    has = {field.name for field in dataclasses.fields(SYSTEMS[name])} if name in SYSTEMS else set()
    for option in _changed(build, own):
        if option not in has:
            raise ValueError(f"{name} has no {option} to choose")
    if support and classifier == "lda":
        raise ValueError("the lda classifier has no support vectors")
    if head != "elm" and _changed(build, {"elm_hidden": elm_hidden}):
        raise ValueError(f"the {head} head has no elm_hidden to choose")
    if (name in SYSTEMS or head in SOLVED) and (gender_to_age, age_hidden, dropout) != ("none", 0, 0):
        system = name if name in SYSTEMS else f"the {head} head"
        raise ValueError(f"{system} supports only gender_to_age='none', age_hidden=0 and dropout=0")
    backbone_options: dict[str, Any] = {
        "width": width,
        "stem": stem,
        "attention": attention,
        "learning": learning,
        "stochastic_depth": stochastic_depth,
        "initial": initial,
        "grid": grid,
        "patch": patch,
        "low": low,
        "patches": patches,
        "top": top,
        "trunk": trunk,
        "dtype": dtype,
    }
    if name in SYSTEMS:
        if _changed(backbone, backbone_options) or head != "softmax":
            raise ValueError(
                f"{name} has no options of other nets: leave width, stem, dtype, head, ... at their defaults"
            )
        options = {option: value for option, value in (own | {"axis_name": axis_name}).items() if option in has}
        return SYSTEMS[name](num_age_classes=num_age_classes, **options)
    body = backbone(name, **backbone_options, axis_name=axis_name)
    if head == "elm":
        return ELMNet(body, num_age_classes, elm_hidden)
    return AgeGenderNet(body, num_age_classes, gender_to_age, age_hidden, dropout)


def classifier(
    name: str, *, num_classes: int, width: float = 1.0, stem: str = "default", dtype: str = "float32"
) -> Classifier:
    """Return the net with one head, as published; see `backbone` for the other arguments."""
    return Classifier(backbone(name, width=width, stem=stem, dtype=dtype), num_classes)


def is_solved(fields: Mapping[str, Any]) -> bool:
    """Return whether the net of a config's `model` group is solved (`run.training.solve`), not trained in steps."""
    return fields["name"] == "region_sift" or fields["head"] in SOLVED


def feed_of(net: nn.Module) -> str:
    """Return the `gender_to_age` of a net; "none" for a module without that attribute."""
    return getattr(net, "gender_to_age", "none")


def _changed(function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """Return the options whose values differ from the defaults of the function."""
    defaults = inspect.signature(function).parameters
    return [option for option, value in options.items() if value != defaults[option].default]


def _known(what: str, name: str, known: Collection[str]) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return name


def from_config(fields: Mapping[str, Any], axis_name: str | None = None) -> Any:
    """Return the net of a config's `model` group, with the 12 age buckets of this library.

    Args:
      fields: `config.model`, a ConfigDict or a plain dict: `name` and keyword arguments of `build`.
      axis_name: mapped axis over which BatchNorm averages its statistics; None for none.

    Raises:
      ConfigError: the net lacks one of the options.
    """
    options = {name: fields[name] for name in fields}
    try:
        return build(options.pop("name"), num_age_classes=NUM_AGE_BUCKETS, axis_name=axis_name, **options)
    except ValueError as error:
        fix = "leave that field at its default, or use another net"
        raise ConfigError(str(error), "--config.model", fix) from error
