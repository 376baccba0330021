"""The config `deep_attention` of the library: agegender_jax/configs/deep_attention.py."""

from agegender_jax.configs.deep_attention import get_config as get_config
