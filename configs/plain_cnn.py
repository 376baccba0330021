"""The config `plain_cnn` of the library: agegender_jax/configs/plain_cnn.py."""

from agegender_jax.configs.plain_cnn import get_config as get_config
