"""A config file for the programs: a run of 60 steps of a tiny `ran` or `resnet`, with dropout and an average.

Faces of the source: 64, so an epoch has six steps; a save every 6 steps, an evaluation every 24.
"""

from agegender_jax import config as config_lib
from agegender_jax import models
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet

RAN = {"modules": (1,), "channels": (32,), "depths": (1,), "final_units": 0, "p": 0, "t": 1}
INTERVAL, STEPS = 6, 60


def get_config(net="resnet"):
    models.BACKBONES["resnet18"] = (ResNet, {"blocks": (1,), "bottleneck": False})
    models.BACKBONES["ran56"] = (ResidualAttentionNet, RAN)
    config = config_lib.default()
    config.model.update(name={"ran": "ran56", "resnet": "resnet18"}[net], width=0.125, dropout=0.2)
    config.update({"num_steps": STEPS, "batch_size": 8, "data": {"image_size": 32, "num_workers": 2}})
    config.update({"optimizer": {"ema": 0.9}, "eval": {"every_epochs": 4, "batch_size": 8}})
    config.update({"log": {"every_steps": 2, "figures": False}, "checkpoint": {"every_steps": INTERVAL}})
    return config
