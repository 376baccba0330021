"""Validation during training: scores on val, collapse detection, and the loss that selects the best checkpoint."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import ensemble, metrics, models, training
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.errors import NotFiniteError, PeerReportedError, Stopped
from agegender_jax.run import checks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.signals import CODES, StopFlag
from agegender_jax.run.training import batch_statistics
from agegender_jax.run.training.training_log import Recorder
from agegender_jax.structs import Probs, TrainState


class Validator:
    """Score a state on val with all devices, using its moving average if there is one."""

    def __init__(self, config: ConfigDict, dataset: Dataset, recorder: Recorder):
        self.config, self.dataset, self.recorder = config, dataset, recorder
        self.model = models.from_config(config.model)

    def __call__(self, step: int, state: TrainState) -> dict | None:
        """Return and log the scores; None if val is empty.

        Returns:
          The scores of the val row, with `calibrated_loss`, which selects the best checkpoint, and `val_loss`, which
          selects it among steps from an older version that lack the former.
        """
        age, gender = self.dataset.targets("val")
        if not len(gender):
            return None
        variables = jax.tree.map(np.asarray, training.eval_variables(state))
        variables = jax.device_put(variables, jax.local_devices()[0])
        batches = self.dataset.eval_batches("val", self.config.data.image_size, self.config.eval.batch_size)
        batches = processes.until_stopped(batches, self.recorder.progress.stop, "validating", step)
        options = {"devices": jax.devices(), "allow_control": True, "views": self.config.eval.views}
        probs = ensemble.predict_all(self.model, variables, batches, **options)
        scores = metrics.losses(probs.age, probs.gender, age, gender) | ensemble.evaluate([probs], age, gender)
        checks.finite(step, [scores["loss"]])
        scores |= calibrated_scores(probs, age, gender, self.config.loss)
        half_done = 2 * step >= self.recorder.num_steps
        collapsed = metrics.collapsed(probs.age, probs.gender, age, gender, half_done=half_done)
        collapsed = [head for head in collapsed if self.config.loss[f"{head}_weight"]]
        self.recorder.write({**self.recorder.position(step, "val"), **scores, "collapsed": collapsed})
        for head in collapsed:
            self.recorder.progress.warn(
                f"the {head} head has collapsed: it separates the classes no better than a constant"
            )
        return scores | {"val_loss": selection_loss(scores, self.config.loss), "collapsed": collapsed}


def calibrated_scores(probs: Probs, age: np.ndarray, gender: np.ndarray, loss_config: ConfigDict) -> dict[str, float]:
    """Return `calibrated_loss` and the temperature of each head, fitted on these examples.

    `calibrated_loss` is the `selection_loss` at these temperatures, so that a more accurate step is not passed over
    because it is over-confident.
    """
    fitted = metrics.calibrated_losses(probs.age, probs.gender, age, gender)
    temperatures = {name: fitted[name] for name in ("age_temperature", "gender_temperature")}
    return {"calibrated_loss": selection_loss(fitted, loss_config)} | temperatures


def selection_loss(scores: dict, loss_config: ConfigDict) -> float:
    """Return the sum of the trained heads' cross-entropies, unweighted."""
    weights = {"loss_age": loss_config.age_weight, "loss_gender": loss_config.gender_weight}
    return sum(scores[name] for name, weight in weights.items() if weight)


def reestimate_statistics(
    step: int, state: TrainState, config: ConfigDict, dataset: Dataset, stop: StopFlag, checkpoints: Checkpoints
) -> TrainState:
    """Return a saved state with the BatchNorm statistics that `eval.bn_batches` requires, and save it again with them.

    Raises:
      Stopped: after a signal, once the original state is on disk.
      NotFiniteError: a statistic is not finite; the checkpoint is withdrawn.
    """
    if not config.eval.bn_batches:
        return state
    with _handled(step, checkpoints):
        state = batch_statistics.reestimate(config, dataset, state, stop)
        checks.finite(step, (state.batch_stats, state.ema))
    with processes.sync_errors():
        checkpoints.save(step, state, config_lib.to_dict(config))
    return state


def validate(step: int, state: TrainState, validator: Validator, checkpoints: Checkpoints) -> None:
    """Score a state that is saved or being saved, and add the scores to its checkpoint.

    Raises:
      Stopped: after a signal, once the state is on disk.
      NotFiniteError: a loss is not finite; the checkpoint is withdrawn.
    """
    with _handled(step, checkpoints):
        scores = validator(step, state)
    with processes.sync_errors():
        checkpoints.add_metrics(step, scores)


@contextlib.contextmanager
def _handled(step: int, checkpoints: Checkpoints) -> Iterator[None]:
    """Withdraw the checkpoint of the step if the body finds a number that is not finite; finish its save if stopped."""
    try:
        with finish_save_if_stopped(checkpoints):
            yield
    except NotFiniteError:
        with processes.sync_errors():
            checkpoints.withdraw(step)
        raise


@contextlib.contextmanager
def finish_save_if_stopped(checkpoints: Checkpoints) -> Iterator[None]:
    """If the body stops after a signal, wait until the state is on disk; the next start repeats the body."""
    try:
        yield
    except (Stopped, PeerReportedError) as error:  # the same signal, in process 0 and in the others
        if error.code in CODES.values():
            with processes.sync_errors():
                checkpoints.finish()
        raise
