"""Folders of runs with random weights, made in a second: what follows a training can be tested without one."""

import pathlib

import jax
import numpy as np

from agegender_jax import config as config_lib
from agegender_jax import loading, synthetic
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.config import default
from agegender_jax.run import final_test
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir


def make_config(folder: pathlib.Path, count: int, seed: int = 0):
    """Return the config of a small net on `count` drawn faces, which are written to `folder`/faces."""
    synthetic.write_faces(folder / "faces", count, seed=seed, size=32)
    config = default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"), image_size=32)
    config.num_steps, config.log.figures = 2, False
    return config


def make_run(path: pathlib.Path, config, seed: int = 0, test: bool = True) -> pathlib.Path:
    """Write the folder of a run with random weights at step 2; `test` adds what the end of a training writes."""
    dataset, run, fields = load_dataset(config), Workdir(path), config_lib.to_dict(config)
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), loading.variable_shapes(fields)
    )
    with run:
        run.write_start(config, ["test"], dataset.prepared, dataset.assignment, print)
        checkpoints = Checkpoints(run.checkpoints)
        checkpoints.save(2, variables, fields, {"val_loss": 1.0})
        checkpoints.close()
        if test:
            with Progress(silent=True) as progress:
                final_test.test(run, dataset, "", config.log.figures, progress)
    return path
