"""The config `baselines` of the library: agegender_jax/configs/baselines.py."""

from agegender_jax.configs.baselines import get_config as get_config
