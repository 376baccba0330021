"""The config `frequency_critic` of the library: agegender_jax/configs/frequency_critic.py."""

from agegender_jax.configs.frequency_critic import get_config as get_config
