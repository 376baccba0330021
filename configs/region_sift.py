"""The config `region_sift` of the library: agegender_jax/configs/region_sift.py."""

from agegender_jax.configs.region_sift import get_config as get_config
