"""The same step in PyTorch, in its own process, which runs steps on request."""

import importlib.util
import json
import subprocess
import sys

import jax
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import data
from agegender_jax.errors import ConfigError
from agegender_jax.labels import NUM_AGE_BUCKETS
from benchmarks.machine import ROOT

PROGRAM = ROOT / "benchmarks" / "torch_steps.py"


# Fields that PyTorch's step has too, and those that do not change a step; every other field must have its default.
COUNTERPARTS = (
    *("seed", "batch_size", "num_epochs", "num_steps", "parallel", "init_from"),
    *("data.", "eval.", "log.", "checkpoint.", "train."),
    *(f"model.{name}" for name in ("name", "width", "stem", "dtype", "gender_to_age", "age_hidden")),
    *(f"optimizer.{name}" for name in ("lr", "clip_norm", "schedule", "warmup", "final", "momentum")),
    *(f"loss.{name}" for name in ("age_weight", "gender_weight", "label_smoothing", "age_spread")),
    *("augment.flip", "augment.shift", "augment.colour"),
)


class OutOfMemory(ConfigError):
    """PyTorch's step does not fit into memory."""


def check() -> None:
    """Raise ConfigError if PyTorch or its part of the benchmark is missing."""
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("PyTorch is not installed", "--against=torch", "pip install torch==2.13.0")
    if not PROGRAM.exists():
        raise ConfigError("the PyTorch nets are missing", str(PROGRAM), "run it from a checkout of the repository")


def check_fields(config: ConfigDict) -> None:
    """Raise ConfigError for a field that changes our step, but not PyTorch's."""
    usual = dict(config_lib.flat(config_lib.default()))
    known = {name for name in COUNTERPARTS if not name.endswith(".")}
    groups = tuple(name for name in COUNTERPARTS if name.endswith("."))
    for name, value in config_lib.flat(config):
        if value != usual[name] and name not in known and not name.startswith(groups):
            raise ConfigError(
                f"the PyTorch step supports only {name}={usual[name]!r}, not {value!r}",
                "--against=torch",
                f"leave {name} at its default, or measure without --against",
            )


class TorchProcess:
    """A process of benchmarks/torch_steps.py for the step of `config`; a context manager that ends it.

    Args:
      what: "train" or "evaluate".
      parameters: number of parameters that the net must have.
      compiled: use torch.compile.

    Attributes:
      info: version, device, threads, compiled, and the values that it reported with its last steps.

    Raises:
      ConfigError: no PyTorch counterpart of this config, or another number of parameters.
    """

    def __init__(self, what: str, config: ConfigDict, parameters: int, compiled: bool):
        check()
        check_fields(config)
        gpu = jax.default_backend() == "gpu"
        if gpu and jax.device_count() > 1:
            raise ConfigError("PyTorch's side has one GPU only", "--against=torch", "set CUDA_VISIBLE_DEVICES=0")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.torch_steps"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.info = self._ask(
                json.dumps(
                    {
                        "what": what,
                        "config": config.to_dict(),
                        "num_age_classes": NUM_AGE_BUCKETS,
                        "mean": data.IMAGENET_MEAN.tolist(),
                        "std": data.IMAGENET_STD.tolist(),
                        "compile": compiled,
                        "gpu": gpu,
                    }
                )
            )
            theirs = self.info.pop("parameters")
            if theirs != parameters:
                raise ConfigError(
                    f"{config.model.name} has {theirs} parameters in PyTorch, {parameters} here",
                    "benchmarks/torch_nets.py",
                    "correct that file: the nets must be the same",
                )
        except ConfigError:
            self.__exit__()
            raise

    def __enter__(self) -> "TorchProcess":
        return self

    def __exit__(self, *error) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, count: int) -> list[float]:
        """Return seconds of each of `count` steps. Raises ConfigError if it fails, for example OutOfMemory."""
        answer = self._ask(str(count))
        seconds = answer.pop("seconds")
        self.info |= answer
        return seconds

    def _ask(self, line: str) -> dict:
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "{}")
        except OSError:
            answer = {}
        if "error" in answer or not answer:
            what = answer.get("error", "its process exited without an answer")
            kind = OutOfMemory if "out of memory" in what.lower() else ConfigError
            raise kind(f"PyTorch fails: {what}", "--against=torch", "measure without --against, or another config")
        return answer
