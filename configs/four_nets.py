"""The config `four_nets` of the library: agegender_jax/configs/four_nets.py."""

from agegender_jax.configs.four_nets import get_config as get_config
