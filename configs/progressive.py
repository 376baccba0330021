"""The config `progressive` of the library: agegender_jax/configs/progressive.py."""

from agegender_jax.configs.progressive import get_config as get_config
