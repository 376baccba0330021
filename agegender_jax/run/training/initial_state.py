"""The state that training starts from: the newest checkpoint, other weights, or step 0 from the seed."""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import files, optim, training, weights
from agegender_jax.checkpoint import Checkpoints, initial_weights
from agegender_jax.checkpoint.reading import CONFIG
from agegender_jax.errors import ConfigError
from agegender_jax.run import leaks
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.training import teacher
from agegender_jax.run.workdir import Workdir
from agegender_jax.structs import TrainState


def initializer(config: ConfigDict, model, tx) -> Callable[[], TrainState]:
    """Return the function that makes the state at step 0 from the config's seed."""
    return functools.partial(
        training.init_state,
        model,
        tx,
        jax.random.key(config.seed),
        config.data.image_size,
        ema=config.optimizer.ema > 0,
    )


def check_sources(config: ConfigDict) -> None:
    """Raise ConfigError if something that `init_from` or `loss.teacher` names does not exist."""
    for source in _sources(config):
        if not weights.is_shipped(source):
            initial_weights.check_exists(files.expand(source, "--config.init_from"))
    for name in teacher.names(config):
        teacher.check_exists(name)


def _sources(config: ConfigDict) -> list[str]:
    """Return the parts of `init_from`; raise ConfigError for an empty one."""
    sources = files.split_names(config.init_from) if config.init_from else []
    if not all(sources):
        raise ConfigError("an empty name of weights", f"--config.init_from={config.init_from}", "remove the comma")
    return sources


def load_weights(
    config: ConfigDict,
    folder: Workdir,
    checkpoints: Checkpoints,
    new_state: Callable[[], TrainState],
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return the weights that `init_from` names, for a run without checkpoints.

    What they and the nets of `loss.teacher` were trained on is recorded.
    """
    if not checkpoints.is_empty():
        return {}
    folder.inherited.unlink(missing_ok=True)  # of an earlier start that never trained
    teachers = teacher.names(config)
    for name in filter(weights.is_shipped, teachers):
        progress.note(_unknown_to_the_leak_check(name))
    if not config.init_from:
        leaks.inherit(folder, teachers)
        return {}
    state = jax.eval_shape(new_state)
    shapes = {"params": state.params, "batch_stats": state.batch_stats}
    sources = _sources(config)
    leaves = initial_weights.mean([_load(source, shapes, progress) for source in sources], sources)
    leaks.inherit(folder, [*sources, *teachers])
    return leaves


def _load(source: str, shapes: Any, progress: Progress) -> dict[str, np.ndarray]:
    """Return the arrays of one part of `init_from`."""
    if weights.is_shipped(source):
        return _shipped(source, shapes, progress)
    return initial_weights.load(source, shapes, progress.note)


def _shipped(name: str, shapes: Any, progress: Progress) -> dict[str, np.ndarray]:
    """Return the arrays of shipped weights."""
    card = weights.card(name)
    if card.members is not None:
        one_of = " or ".join(card.members)
        raise ConfigError(f"{name} is an ensemble; a net starts from one", "--config.init_from", f"name {one_of}")
    _, variables = weights.load(card)
    progress.note(_unknown_to_the_leak_check(name))
    net = card.config["model"]
    source = f"the shipped weights {name} ({net['name']}, width {net['width']:g})"
    return initial_weights.of_variables(variables, source, shapes, progress.note)


def _unknown_to_the_leak_check(name: str) -> str:
    return (
        f"{name} was trained on {weights.card(name).about.get('training')}; the leak check does not know these images"
    )


def restore_or_create(
    new_state: Callable[[], TrainState],
    checkpoints: Checkpoints,
    resuming: bool,
    weights: dict[str, np.ndarray],
    num_steps: int,
    progress: Progress,
) -> TrainState:
    """Return the state of the newest usable checkpoint, or one at step 0; the same in every process."""
    with processes.sync_errors():
        if processes.is_main():
            restored = checkpoints.restore_latest(jax.eval_shape(new_state)) if resuming else None
            if restored is not None:
                state, step = restored
                progress.note(f"resumed at step {step} of {num_steps}")
            else:
                state = _create(new_state, weights)
        else:
            state = processes.zeros(jax.eval_shape(new_state))
    return processes.broadcast(state)


def restore_again(
    config: ConfigDict,
    folder: Workdir,
    checkpoints: Checkpoints,
    new_state: Callable[[], TrainState],
    num_steps: int,
    progress: Progress,
) -> TrainState:
    """Return what a new start would begin with: the state of the newest usable checkpoint, or one at step 0."""
    with processes.sync_errors():
        weights = load_weights(config, folder, checkpoints, new_state, progress) if processes.is_main() else {}
    return restore_or_create(new_state, checkpoints, True, weights, num_steps, progress)


def warn_of_new_rate(
    config: ConfigDict, checkpoints: Checkpoints, start: int, steps_per_epoch: int, num_steps: int, progress: Progress
) -> None:
    """Warn if a resumed run has another length than its checkpoint, so that the learning rate jumps.

    The schedule spans the new length of the run: the following steps are trained as in a run that had this length from
    the start.
    """
    if not processes.is_main() or not 0 < start < num_steps:
        return
    trained = json.loads((checkpoints.folder / str(start) / CONFIG).read_text(encoding="utf-8"))
    length = trained["num_steps"] or trained["num_epochs"] * steps_per_epoch
    before, now = (float(optim.schedule(config.optimizer, steps)(start)) for steps in (length, num_steps))
    if not math.isclose(before, now, rel_tol=0.01):
        progress.warn(
            f"the run now has {num_steps} steps instead of {length}, and its learning-rate schedule spans them all: "
            f"step {start + 1} is trained at {now:.3g} instead of {before:.3g}; to choose another rate, start a new "
            "run with init_from"
        )


def _create(new_state: Callable[[], TrainState], weights: dict[str, np.ndarray]) -> TrainState:
    state = new_state()
    if not weights:
        return state
    filled = initial_weights.fill({"params": state.params, "batch_stats": state.batch_stats}, weights)
    ema = None if state.ema is None else jax.tree.map(jax.numpy.copy, filled)
    return state.replace(**filled, ema=ema)
