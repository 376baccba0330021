"""The config `resnet` of the library: agegender_jax/configs/resnet.py."""

from agegender_jax.configs.resnet import get_config as get_config
