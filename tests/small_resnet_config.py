"""A config file for the programs: a ResNet of two blocks, which is compiled in seconds and has BatchNorm."""

from agegender_jax import config as config_lib
from agegender_jax import models
from agegender_jax.models.resnet import ResNet


def get_config():
    models.BACKBONES["resnet18"] = (ResNet, {"blocks": (1, 1), "bottleneck": False})
    config = config_lib.default()
    config.update({"num_steps": 28, "data": {"image_size": 32}, "model": {"name": "resnet18", "width": 0.125}})
    config.update({"log": {"every_steps": 2, "figures": False}, "checkpoint": {"every_steps": 4}})
    return config
