"""The config `quickstart` of the library: agegender_jax/configs/quickstart.py."""

from agegender_jax.configs.quickstart import get_config as get_config
