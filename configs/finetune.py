"""The config `finetune` of the library: agegender_jax/configs/finetune.py."""

from agegender_jax.configs.finetune import get_config as get_config
