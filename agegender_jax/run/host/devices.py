"""Whether jax has a device to compute on."""

import os

import jax

from agegender_jax.errors import ConfigError
from agegender_jax.run.host import interpreter


def check() -> None:
    """Raise ConfigError unless jax can use the chosen platform; the message says what to install."""
    try:
        jax.devices()
        return
    except Exception as error:  # jax raises RuntimeError and AssertionError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        cause = error
    chosen = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms  # type: ignore[attr-defined]
    plugins = [name for name in interpreter.GPU_PLUGINS if interpreter.is_installed(name)]
    installed = "jax is installed for the CPU only" if not plugins else f"jax is installed with {', '.join(plugins)}"
    raise ConfigError(
        f"jax has no device of the platform {chosen}: {reason}" if chosen else f"jax has no device: {reason}",
        f"JAX_PLATFORMS={chosen}; {installed}" if chosen else installed,
        "unset JAX_PLATFORMS or set it to cpu; for an NVIDIA GPU: pip install 'agegender-jax[cuda12]'",
    ) from cause


def leave_accelerators() -> None:
    """Let jax use only the CPU, before its first use, so that other processes have the accelerators' memory."""
    jax.config.update("jax_platforms", "cpu")
