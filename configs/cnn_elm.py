"""The config `cnn_elm` of the library: agegender_jax/configs/cnn_elm.py."""

from agegender_jax.configs.cnn_elm import get_config as get_config
