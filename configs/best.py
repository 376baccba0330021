"""The config `best` of the library: agegender_jax/configs/best.py."""

from agegender_jax.configs.best import get_config as get_config
