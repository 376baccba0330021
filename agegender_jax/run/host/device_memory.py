"""The error for a device with too little memory."""

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from agegender_jax.errors import ConfigError


@contextlib.contextmanager
def explained_memory(config: ConfigDict) -> Iterator[None]:
    """Raise ConfigError in place of the device's own error if its memory is too small."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"out of memory on {jax.local_devices()[0].device_kind}: {str(error).splitlines()[0][:120]}",
            f"--config.batch_size={config.batch_size}, --config.eval.batch_size={config.eval.batch_size}, "
            f"--config.data.image_size={config.data.image_size}",
            "lower batch_size or eval.batch_size, or set --config.model.dtype=bfloat16, --config.accumulate=2 or "
            "--config.remat=True, in another --workdir if this one has checkpoints; another program may hold some, too",
        ) from error
