"""The tables of nets by name."""

from typing import Any

import flax.linen as nn

from agegender_jax.models.caffenet import CaffeNet
from agegender_jax.models.deep_attention import DeepAttention
from agegender_jax.models.frequency_critic import FrequencyCritic
from agegender_jax.models.googlenet import GoogLeNet
from agegender_jax.models.levi_hassner import LeviHassner
from agegender_jax.models.local_dnn import LocalDNN
from agegender_jax.models.plain_cnn import PlainCNN
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.region_sift import RegionSift
from agegender_jax.models.resnet import ResNet
from agegender_jax.models.vgg import VGG

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
    "deep_attention": (DeepAttention, {}),
    "plain_cnn": (PlainCNN, {}),
}
SYSTEMS: dict[str, Any] = {  # nets with heads of their own
    "local_dnn": LocalDNN,
    "region_sift": RegionSift,
    "frequency_critic": FrequencyCritic,
}


def names() -> tuple[str, ...]:
    """Return the names that `build`, `backbone` and `classifier` take."""
    return tuple(BACKBONES)


def systems() -> tuple[str, ...]:
    """Return the names that `build` alone takes: systems with heads of their own."""
    return tuple(SYSTEMS)
