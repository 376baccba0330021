"""Predictions of a run's net for one split of a dataset."""

import jax
import numpy as np

from agegender_jax import ensemble, loading, models
from agegender_jax.checkpoint.variable_shapes import variable_shapes
from agegender_jax.evaluation import Member
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir, calibration
from agegender_jax.structs import Probs


def predict_member(
    run: Workdir,
    which: str | int,
    dataset: Dataset,
    split: str,
    name: str,
    progress: Progress,
    calibrate: bool = True,
    views: str | None = None,
) -> Member:
    """Return the predictions of a workdir's net for the images of a split, computed by all devices.

    Only process 0 reads the workdir; every process gets all predictions.

    Args:
      which: "best", "latest" or a step.
      name: of the member in the results.
      calibrate: apply the temperatures in calibration.json of the workdir, if it has one.
      views: see `data.views`; None for the run's `eval.views`.

    Raises:
      CheckpointError: there is no usable checkpoint, its config does not describe it, or calibration.json is damaged.
    """
    variables = config = step = fitted = None
    with processes.sync_errors():
        if processes.is_main():
            _, variables, config, step = loading.load_checkpoint(run.path, which, progress.warn)
            fitted = calibration.read(run)
    config, step, fitted = processes.broadcast_value((config, step, fitted))
    if not processes.is_main():
        variables = processes.zeros(variable_shapes(config))
    variables = processes.broadcast(variables)
    model = models.from_config(config["model"])
    views = views or config["eval"].get("views", "none")  # runs of version 0.1 have no such field
    if len(dataset.indices(split)):
        size = config["data"]["image_size"]
        with processes.sync_errors():
            batches = dataset.eval_batches(split, size, config["eval"]["batch_size"], progress.prepare)
        batches = processes.until_stopped(batches, progress.stop, f"predicting the {split} split")
        probs = ensemble.predict_all(model, variables, batches, devices=jax.devices(), allow_control=True, views=views)
    else:
        probs = Probs(np.zeros((0, NUM_AGE_BUCKETS), np.float32), np.zeros((0, 2), np.float32))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    raw = Member(name, run.argument, step, parameters, probs, model.gender_to_age, views=views)
    return calibration.apply(fitted, raw, calibrate, progress.note)
