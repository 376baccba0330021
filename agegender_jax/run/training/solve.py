"""Training of systems without SGD: ELM and ridge heads on a trained net's features, and Region-SIFT.

The workdir is like that of any run, with one checkpoint at step 1, and fit.json with the choices on val and the time.
"""

import contextlib
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import data, extras, files, training
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.data import resolve, split_exceptions
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.models import region_sift
from agegender_jax.models.grey import grey
from agegender_jax.run import checks, train
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import GRACE, stop_flag
from agegender_jax.run.training import final_test, solve_head
from agegender_jax.run.training.solve_head import batches, check_stop
from agegender_jax.run.training.training_log import Recorder
from agegender_jax.run.training.validate import Validator, validate
from agegender_jax.run.workdir import Workdir, write_json
from agegender_jax.solve import region_sift as sift_fit
from agegender_jax.structs import TrainState

STEP = 1
FIT = "fit.json"


def fit(config: ConfigDict, workdir: str, command: list[str], progress: Progress | None = None) -> None:
    """Solve `config` in `workdir`, without repeating what is done. Arguments and errors as in `train.fit`."""
    check(config)
    config = config.copy_and_resolve_references()
    with contextlib.ExitStack() as stack:
        stop, folder = stack.enter_context(stop_flag()), Workdir(workdir)
        stop.begin(0, GRACE)
        checks.before_data(config)
        resolve.check_outside(split_exceptions.join(config.data.source, config.data.train_on), folder.path, "--workdir")
        stack.enter_context(folder)
        if earlier := folder.read_config():
            config.model.support = earlier["model"].get("support", 0)
        checks.same_run(folder, config)
        progress = stack.enter_context(progress or Progress(stop=stop))
        dataset = train.prepare_dataset(config, folder, progress)
        for split in ("train", "val"):
            if not len(dataset.indices(split)):
                raise DataError(f"the {split} split is empty", dataset.prepared.name, "give more images")
        if config.model.name == "region_sift":
            config.model.support = len(dataset.indices("train")) if config.model.classifier != "lda" else 0
        checkpoints = Checkpoints(folder.checkpoints, notice=progress.note)
        stack.callback(checkpoints.close)
        if folder.is_tested():
            progress.note(f"already finished; results in {folder.results}")
            return
        folder.write_start(config, command, dataset.prepared, dataset.assignment, progress.note)
        is_scored = checkpoints.is_scored(STEP)
        recorder = stack.enter_context(Recorder(config, folder, progress, 1, STEP, STEP if is_scored else 0))
        if not is_scored:
            began = time.monotonic()
            variables, report = solve(config, folder, dataset, progress)
            state = _state(variables)
            checks.finite(STEP, (state.params, state.batch_stats))
            write_json(folder.path / FIT, {"seconds": round(time.monotonic() - began, 1)} | report)
            checkpoints.save(STEP, state, config_lib.to_dict(config))
            validate(STEP, state, Validator(config, dataset, recorder), checkpoints)
        checkpoints.finish()
        final_test.warn_of_trained_val(folder, dataset, config.init_from, progress)
        final_test.test(folder, dataset, config.init_from, config.log.figures, progress)


def check(config: ConfigDict) -> None:
    """Raise ConfigError for options that a solved system does not have, or for modules that are not installed."""
    if jax.process_count() > 1:
        raise ConfigError(
            "systems that are solved in closed form run in one process",
            "--num_processes",
            "run the command on one machine",
        )
    if config.model.name == "region_sift":
        if config.init_from:
            raise ConfigError("region_sift does not start from other weights", "--config.init_from", "leave it out")
        extras.check("baselines")
    elif not files.expand(config.init_from or " ", "--config.init_from").is_dir():
        raise ConfigError(
            f"the {config.model.head} head needs a trained net: init_from is not the folder of a run",
            "--config.init_from",
            "name the workdir of a run with the same model.name, model.width and data.image_size",
        )


def solve(config: ConfigDict, folder: Workdir, dataset: Dataset, progress: Progress) -> tuple[dict, dict]:
    """Return the variables of the config's net, and the content of fit.json."""
    if config.model.name == "region_sift":
        return _region_sift(config, dataset, progress), {}
    return solve_head.solve(config, folder, dataset, progress)


def _region_sift(config: ConfigDict, dataset: Dataset, progress: Progress) -> dict:
    describe = jax.jit(lambda images: region_sift.describe(grey(data.normalize(images), region_sift.SIZE)))
    descriptors = {split: _rows(describe, config, dataset, split, progress) for split in ("train", "val")}
    targets = {split: dataset.targets(split) for split in descriptors}
    options = {"classifier": config.model.classifier, "seed": config.seed, "note": progress.note}
    options["check"] = functools.partial(check_stop, progress)
    train_rows, val_rows = descriptors["train"], descriptors["val"]
    params = sift_fit.fit(train_rows, val_rows, targets, num_age_classes=NUM_AGE_BUCKETS, **options)
    return {"params": params}


def _rows(f: Callable, config: ConfigDict, dataset: Dataset, split: str, progress: Progress) -> np.ndarray:
    """Return f for all images of a split, without padding."""
    read = batches(config, dataset, progress, split)
    return np.concatenate([np.asarray(f(batch.image))[np.asarray(batch.mask) > 0] for batch in read])


def _state(variables: dict) -> TrainState:
    return TrainState(
        step=jnp.asarray(STEP, jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=(),
        ema=None,
        sums=training.zero_sums(),
    )
