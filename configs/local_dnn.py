"""The config `local_dnn` of the library: agegender_jax/configs/local_dnn.py."""

from agegender_jax.configs.local_dnn import get_config as get_config
