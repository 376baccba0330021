"""The config `transfer` of the library: agegender_jax/configs/transfer.py."""

from agegender_jax.configs.transfer import get_config as get_config
