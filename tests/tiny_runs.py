"""Workdirs of runs with random weights, made in seconds, for tests of what follows the training steps."""

import pathlib

import jax
import numpy as np

from agegender_jax import config as config_lib
from agegender_jax import models, optim, synthetic
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.config import default
from agegender_jax.models import levi_hassner
from agegender_jax.run import evaluate as evaluate_command
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.train import fit
from agegender_jax.run.training import initial_state
from agegender_jax.run.workdir import Workdir
from agegender_jax.structs import TrainState


def make_config(folder: pathlib.Path, count: int, seed: int = 0):
    """Return the config of a small net on `count` drawn faces, which are written to `folder`/faces."""
    synthetic.write_faces(folder / "faces", count, seed=seed, size=32)
    config = default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"), image_size=32)
    config.num_steps, config.log.figures = 2, False
    return config


def make_run(path: pathlib.Path, config, seed: int = 0, step: int = 0, test: bool = True) -> pathlib.Path:
    """Write the folder of a run with random weights at `step`, 0 for the last; `test` resumes the training, to its end.

    At the last step nothing is left but to validate, calibrate and test, and the training step is not compiled.
    """
    step = step or config.num_steps
    dataset, run = load_dataset(config), Workdir(path)
    tx = optim.build(config.optimizer, config.num_steps)
    shapes: TrainState = jax.eval_shape(initial_state.initializer(config, models.from_config(config.model), tx))
    rng = np.random.default_rng(seed)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).replace(
        step=np.int32(step), params=jax.tree_util.tree_map_with_path(lambda *leaf: _weights(rng, *leaf), shapes.params)
    )
    with run:
        run.write_start(config, ["test"], dataset.prepared, dataset.assignment, print)
        checkpoints = Checkpoints(run.checkpoints)
        checkpoints.save(step, state, config_lib.to_dict(config))
        checkpoints.close()
    if test:
        fit(config, str(path), ["test"])
    return path


def _weights(rng: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return a kernel that keeps the scale of its input, conv1's of pixels in 0..255 that of 0..1; or a bias of 0."""
    scale = (1 / np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 0
    if "conv1" in jax.tree_util.keystr(path):
        scale /= max(levi_hassner.PIXEL_SCALE)
    return (scale * rng.normal(size=leaf.shape)).astype(np.float32)


def evaluate(*runs, out, **options):
    """Return the results of the evaluation command."""
    arguments = {"source": None, "split": None, "checkpoint": "best", "allow_leak": False, "draw": False}
    return evaluate_command.evaluate([str(run) for run in runs], out=str(out), **arguments | options)
