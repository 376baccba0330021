"""The training loop, with logging, validation, checkpoints, stops by signals, and rollbacks."""

import dataclasses
from collections.abc import Callable
from typing import NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import parallel, training
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.errors import NotFiniteError, Stopped
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.run.training.evaluation_schedule import Schedule
from agegender_jax.run.training.nonfinite import NonfiniteMonitor
from agegender_jax.run.training.training_log import Recorder
from agegender_jax.run.training.validate import Validator, reestimate_statistics, validate
from agegender_jax.structs import TrainState

MAX_STEPS_IN_FLIGHT = 4  # so that batches do not pile up on the device


@dataclasses.dataclass
class TrainingLoop:
    """Everything that the training loop of a run needs except its state.

    Attributes:
      restore: returns the state of the newest checkpoint, or that at step 0 if there is none.
    """

    config: ConfigDict
    dataset: Dataset
    driver: parallel.ShardMap | parallel.PMap
    checkpoints: Checkpoints
    recorder: Recorder
    monitor: NonfiniteMonitor
    progress: Progress
    stop: StopFlag
    steps_per_epoch: int
    num_steps: int
    restore: Callable[[], TrainState]

    def run(self, state: TrainState) -> None:
        """Train from `state`, which is saved or at step 0, to the last step of the run, and save that.

        Raises:
          Stopped: after a signal, with everything saved.
          NotFiniteError: as `train.on_nonfinite` specifies.
        """
        self.progress.start(int(state.step), self.num_steps, self.steps_per_epoch)
        while True:
            try:
                return self._train(state)
            except NotFiniteError as error:
                self.monitor.check_may_roll_back(error)
                state = self.restore()
                self.monitor.roll_back(error, self._step, int(state.step))
                self.recorder.rewind(int(state.step))

    def _train(self, state: TrainState) -> None:
        config, driver, recorder, monitor = self.config, self.driver, self.recorder, self.monitor
        start = self._step = int(state.step)
        schedule = Schedule(config, self.steps_per_epoch, self.num_steps, start)
        monitor.start(start, state.sums)
        self.stop.begin(start, self.stop.grace)
        if processes.broadcast_value(schedule.evaluates(start) and not self.checkpoints.is_scored(start)):
            # ended after this step was saved and before its scores were, which may have been logged
            self.recorder.remove_val(start)
            state = self._validate(start, state)
        if start >= self.num_steps:
            self.progress.note(f"trained to step {start} already; only calibration and test are repeated")
        with processes.sync_errors():
            batches = self.dataset.train_batches(config, start, self.num_steps, self.progress.prepare)
            feed = recorder.timed(batches, driver.split)
        state = driver.replicate(state)
        batch = next(feed, None)
        for step in range(start + 1, self.num_steps + 1):
            if step in monitor.excluded:
                state = state.replace(step=driver.replicate(np.int32(step)))
            else:
                state = driver.step(state, batch)
                monitor.watch(step, state.sums)
            self._step = self.stop.trained = step
            self.progress.step(step)
            batch = next(feed, None)  # read and copied to the devices while the step runs
            if step % MAX_STEPS_IN_FLIGHT == 0:
                jax.block_until_ready(state.step)
                monitor.check_steps()

            evaluating = schedule.evaluates(step)
            if evaluating or step % config.log.every_steps == 0:
                monitor.check_steps()
                monitor.check(step, (state.batch_stats, state.ema))
                recorder.log_train(step, state.sums, monitor.left_out)
                monitor.check_loss(step, state.sums)
                state = state.replace(sums=driver.replicate(training.zero_sums()))
                monitor.restart_sums()
            stop_code = stop_requested(step, self.stop, self.checkpoints)
            if stop_code or schedule.saves(step):
                monitor.check_steps()
                monitor.check(step, state)
                with processes.sync_errors():
                    recorder.folder.check_in_place()
                    recorder.sync()
                    self.checkpoints.save(step, state, config_lib.to_dict(config))
            if stop_code:
                leave(stop_code, step, self.checkpoints)
            if evaluating:
                state = driver.replicate(self._validate(step, state))
                recorder.restart_clock(step)

    def _validate(self, step: int, state: TrainState) -> TrainState:
        """Score a saved state; return it with the BatchNorm statistics that it was scored with."""
        state = reestimate_statistics(step, state, self.config, self.dataset, self.stop, self.checkpoints)
        validate(step, state, Validator(self.config, self.dataset, self.recorder), self.checkpoints)
        return state


def stop_requested(step: int, stop: StopFlag, checkpoints: Checkpoints) -> int:
    """Return the exit code of a signal that any process has received, else 0. A failed save raises here.

    Several processes compare their flags only at steps where they wait for the devices anyway.
    """
    if jax.process_count() > 1 and step % MAX_STEPS_IN_FLIGHT:
        return 0
    with processes.sync_errors() as agreed:
        checkpoints.poll()
        agreed.value = stop.code or 0
    return agreed.value


def leave(code: int, step: int, checkpoints: Checkpoints) -> NoReturn:
    """Raise Stopped once the save of this step is on disk."""
    with processes.sync_errors():
        checkpoints.finish()
    raise Stopped(code, step)
