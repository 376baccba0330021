"""Measure throughput: the training step, evaluation, the input pipeline, or a whole training.

python -m launch.benchmark --what=train|input|fit|evaluate --config=configs/ran.py [--steps=30] [--against=torch]

The last line on stdout is a JSON object. train and evaluate need no data; input and fit read data.source.
"""

import os

from absl import flags

from agegender_jax import files
from agegender_jax.cli import app
from agegender_jax.errors import ConfigError
from agegender_jax.run.host import determinism
from benchmarks import shared_gpu

CONFIG = app.define_config()
WHATS = ("train", "input", "fit", "evaluate")
WHAT = flags.DEFINE_enum("what", None, WHATS, "What to measure.")
STEPS = flags.DEFINE_integer("steps", 30, "Steps to time, after warm-up.")
AGAINST = flags.DEFINE_enum("against", None, ["torch"], "The same net in PyTorch, in turns; train and evaluate only.")
TORCH_COMPILE = flags.DEFINE_bool("torch_compile", None, "torch.compile on PyTorch's side; default: on a GPU only.")

EXTRA = "train"


def main() -> None:
    config = app.config_of(CONFIG)
    if WHAT.value is None:
        raise ConfigError("--what is missing", "--what", f"use one of {', '.join(WHATS)}")
    if STEPS.value < 1:
        raise ConfigError(f"--steps must be at least 1, got {STEPS.value}", "--steps", "for example --steps=30")
    if AGAINST.value and WHAT.value not in ("train", "evaluate"):
        raise ConfigError(
            f"--against compares train and evaluate, not {WHAT.value}", "--against", "leave out --against"
        )
    if config.deterministic:
        determinism.request()
    if AGAINST.value:
        shared_gpu.prepare(os.environ)
    app.prepare_jax(compilation_cache=False)  # compile_s is that of a cold start
    from benchmarks import throughput, torch_process  # imports jax

    if AGAINST.value:
        torch_process.check()
    measurement = throughput.measure(
        WHAT.value, config, STEPS.value, against_torch=AGAINST.value is not None, torch_compile=TORCH_COMPILE.value
    )
    print(files.to_json(measurement), flush=True)
