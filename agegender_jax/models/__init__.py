"""The nets by name.

`build` gives the whole net, `backbone` the part that turns images into features, `names` what there is.
"""

import flax.linen as nn
import jax.numpy as jnp

from agegender_jax.models.agegender import FEEDS, AgeGenderNet
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet

BACKBONES = {
    "ran56": (ResidualAttentionNet, {"modules": (1, 1, 1)}),
    "ran92": (ResidualAttentionNet, {"modules": (1, 2, 3)}),
    "resnet18": (ResNet, {"blocks": (2, 2, 2, 2), "bottleneck": False}),
    "resnet34": (ResNet, {"blocks": (3, 4, 6, 3), "bottleneck": False}),
    "resnet50": (ResNet, {"blocks": (3, 4, 6, 3), "bottleneck": True}),
}


def names() -> tuple[str, ...]:
    """The names that `build` and `backbone` take."""
    return tuple(BACKBONES)


def backbone(
    name: str,
    *,
    width: float = 1.0,
    stem: str = "imagenet",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> nn.Module:
    """A Module: images float32 [B, H, W, 3] -> features float32 [B, F], to put other heads on.

    Args:
      name: one of `names()`.
      width: channel multiplier; channels are multiples of 8.
      stem: "imagenet" or "small".
      dtype: "float32" or "bfloat16", of the convolutions.
      axis_name: the mapped axis over which BatchNorm is synchronised in training.

    Raises:
      ValueError: unknown name or stem.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown net {name!r}; known: {', '.join(BACKBONES)}")
    if stem not in ("imagenet", "small"):
        raise ValueError(f"unknown stem {stem!r}; known: imagenet, small")
    kind, table = BACKBONES[name]
    return kind(**table, width=width, stem=stem, dtype=jnp.dtype(dtype), axis_name=axis_name)


def build(
    name: str,
    *,
    num_age_classes: int,
    gender_to_age: str = "probs",
    age_hidden: int = 0,
    width: float = 1.0,
    stem: str = "imagenet",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> AgeGenderNet:
    """The net with both heads; see `backbone` and `AgeGenderNet` for the arguments.

    Raises:
      ValueError: unknown name, stem or feed.
    """
    if gender_to_age not in FEEDS:
        raise ValueError(f"unknown gender_to_age {gender_to_age!r}; known: {', '.join(FEEDS)}")
    body = backbone(name, width=width, stem=stem, dtype=dtype, axis_name=axis_name)
    return AgeGenderNet(body, num_age_classes, gender_to_age, age_hidden)
