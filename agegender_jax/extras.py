"""Optional dependencies: which extra of the package installs which module."""

from agegender_jax.errors import ConfigError

EXTRAS = {
    "train": (
        *("array_record", "grain", "importlib_resources", "optax", "rich", "safetensors", "tensorboardX"),
        "tensorflow_datasets",
    ),
    "report": ("PIL", "jinja2", "matplotlib"),
}


def missing(error: ModuleNotFoundError) -> ConfigError | None:
    """Return the error with the command that installs the module, or None for a module that no extra installs."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return ConfigError(
                f"the package with the module {module} is not installed",
                "optional dependencies",
                f"pip install 'agegender-jax[{extra}]', or pip install -e '.[{extra}]' in a checkout",
            )
    return None
