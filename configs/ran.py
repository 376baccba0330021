"""The config `ran` of the library: agegender_jax/configs/ran.py."""

from agegender_jax.configs.ran import get_config as get_config
