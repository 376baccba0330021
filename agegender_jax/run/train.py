"""The training command: prepare the data, train, validate, save, resume, and test the best checkpoint at the end.

With several processes, each takes its share of every batch. Only process 0 writes to the workdir and logs.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import data, losses, models, optim, parallel, training
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.data import resolve
from agegender_jax.data.augment import augment
from agegender_jax.errors import NotFiniteError, PeerReportedError, Stopped
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import batch_statistics, checks, final_test, initial_state
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import CODES, GRACE, StopFlag, stop_flag
from agegender_jax.run.recorder import Recorder
from agegender_jax.run.schedule import Schedule
from agegender_jax.run.validate import Validator
from agegender_jax.run.workdir import Workdir, summary, write_csv
from agegender_jax.structs import TrainState

MAX_STEPS_IN_FLIGHT = 4  # so that batches do not pile up on the device


def fit(
    config: ConfigDict,
    workdir: str,
    command: list[str],
    progress: Progress | None = None,
) -> None:
    """Train `config` in `workdir`, or resume where the same command stopped.

    Args:
      command: the program's arguments, for run.json.
      progress: receives notes, bars and log rows; a new one if None.

    Raises:
      UserError: its subclass gives the exit code.
      Stopped: after a signal, with everything saved.
      PeerReportedError, LocalError: with several processes, see `processes.report_errors_once`.
    """
    config_lib.validate(config)
    from agegender_jax.run import solve  # imports this module

    if solve.is_solved(config):
        return solve.fit(config, workdir, command, progress)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.report_errors_once())
        stack.enter_context(checks.explained_memory(config))
        stop = stack.enter_context(stop_flag())
        is_main, folder = processes.is_main(), Workdir(workdir)
        stop.begin(0, GRACE if is_main else GRACE - 1)  # jax would abort the others if process 0 left first
        checks.before_data(config)
        resuming = False
        with processes.sync_errors():
            if is_main:
                resolve.check_outside(config.data.source, folder.path, "--workdir")
                stack.enter_context(folder)
                resuming = checks.same_run(folder, config)
        progress = stack.enter_context(progress or Progress(silent=not is_main, stop=stop))

        dataset = prepare_dataset(config, folder, progress)
        steps_per_epoch = len(dataset.indices("train")) // config.batch_size
        num_steps = config.num_steps or config.num_epochs * steps_per_epoch
        tx = optim.build(config.optimizer, num_steps)
        model = build_model(config)
        driver = make_driver(config, model, tx, train_age=dataset.targets("train")[0])
        checkpoints = Checkpoints(folder.checkpoints, notice=progress.note, on_saved=stop.mark_saved)
        stack.callback(checkpoints.close)

        new_state = initial_state.initializer(config, model, tx)
        with processes.sync_errors():
            weights = initial_state.load_weights(config, folder, checkpoints, new_state, progress) if is_main else {}
            if is_main:
                folder.write_start(config, command, dataset.prepared, dataset.assignment, progress.note)
        state = initial_state.restore_or_create(new_state, checkpoints, resuming, weights, num_steps, progress)
        start = int(state.step)
        if already_finished(start, num_steps, folder, progress):
            return

        initial_state.warn_of_new_rate(config, checkpoints, start, steps_per_epoch, num_steps, progress)
        recorder = stack.enter_context(Recorder(config, folder, progress, steps_per_epoch, num_steps, start))
        validator = Validator(config, dataset, recorder)
        schedule = Schedule(config, steps_per_epoch, num_steps, start)
        stop.begin(start, stop.grace)
        if processes.broadcast_value(schedule.evaluates(start) and not checkpoints.is_scored(start)):
            # stopped after this step was saved and before it was validated
            state = reestimate_statistics(start, state, config, dataset, stop, checkpoints)
            validate(start, state, validator, checkpoints)
        if start >= num_steps:
            progress.note(f"trained to step {start} already; only calibration and test are repeated")
        with processes.sync_errors():
            feed = recorder.timed(dataset.train_batches(config, start, num_steps, progress.prepare), driver.split)
        progress.start(start, num_steps, steps_per_epoch)
        state = driver.replicate(state)
        batch = next(feed, None)
        for step in range(start + 1, num_steps + 1):
            state = driver.step(state, batch)
            stop.trained = step
            progress.step(step)
            batch = next(feed, None)  # read and copied to the devices while the step runs
            if step % MAX_STEPS_IN_FLIGHT == 0:
                jax.block_until_ready(state.step)

            evaluating = schedule.evaluates(step)
            if evaluating or step % config.log.every_steps == 0:
                recorder.log_train(step, state.sums)
                state = state.replace(sums=driver.replicate(training.zero_sums()))
            stop_code = stop_requested(step, stop, checkpoints)
            if stop_code or schedule.saves(step):
                checks.finite(step, (state.params, state.batch_stats, state.ema, state.sums))
                with processes.sync_errors():
                    checkpoints.save(step, state, config_lib.to_dict(config))
            if stop_code:
                leave(stop_code, step, checkpoints)
            if evaluating:
                state = driver.replicate(reestimate_statistics(step, state, config, dataset, stop, checkpoints))
                validate(step, state, validator, checkpoints)
                recorder.restart_clock(step)
        with processes.sync_errors():
            checkpoints.finish()
            if is_main:
                folder.restore_start(config, command, dataset.prepared, dataset.assignment)
        final_test.test(folder, dataset, config.init_from, config.log.figures, progress)


def already_finished(start: int, num_steps: int, folder: Workdir, progress: Progress) -> bool:
    """Return whether a run has been trained and tested; a model card that is absent is written again."""
    if not processes.broadcast_value(start >= num_steps and folder.is_tested()):
        return False
    progress.note(f"already finished at step {start}; results in {folder.results}")
    if processes.is_main() and not folder.card.exists():
        summary.write_card(folder)
    return True


def leave(code: int, step: int, checkpoints: Checkpoints) -> NoReturn:
    """Raise Stopped once the save of this step is on the disk."""
    with processes.sync_errors():
        checkpoints.finish()
    raise Stopped(code, step)


def prepare_dataset(config: ConfigDict, folder: Workdir, progress: Progress) -> Dataset:
    """Prepare and split the source; check that it fits the config, the earlier starts and the other processes."""

    def list_bad(bad: list[tuple[str, str]]) -> str:
        if processes.is_main():
            write_csv(folder.bad_images, ("file", "reason"), bad)
        return str(folder.bad_images)

    with processes.sync_errors():
        dataset = load_dataset(config, progress.prepare, list_bad)
        checks.batch_fits(dataset, config)
        for warning in checks.empty_splits(dataset):
            progress.warn(warning)
        if processes.is_main():
            checks.same_data(folder, dataset)
    with processes.sync_errors():
        checks.same_data_everywhere(dataset)
    return dataset


@contextlib.contextmanager
def finish_save_if_stopped(checkpoints: Checkpoints) -> Iterator[None]:
    """Wait until the state is on the disk where the body stops after a signal; the next start repeats the body."""
    try:
        yield
    except (Stopped, PeerReportedError) as error:  # the same signal, in process 0 and in the others
        if error.code in CODES.values():
            with processes.sync_errors():
                checkpoints.finish()
        raise


def reestimate_statistics(
    step: int, state: TrainState, config: ConfigDict, dataset: Dataset, stop: StopFlag, checkpoints: Checkpoints
) -> TrainState:
    """Return a saved state with the BatchNorm statistics that `eval.bn_batches` asks for, and save it again with them.

    Raises:
      Stopped: after a signal, once the state is on the disk as it was.
    """
    if not config.eval.bn_batches:
        return state
    with finish_save_if_stopped(checkpoints):
        state = batch_statistics.reestimate(config, dataset, state, stop)
    checks.finite(step, (state.batch_stats, state.ema))
    with processes.sync_errors():
        checkpoints.save(step, state, config_lib.to_dict(config))
    return state


def validate(step: int, state: TrainState, validator: Validator, checkpoints: Checkpoints) -> None:
    """Score a state that is saved or being saved, and add the scores to its checkpoint.

    Raises:
      Stopped: after a signal, once the state is on the disk.
      NotFiniteError: a loss is not finite; the checkpoint is withdrawn.
    """
    try:
        with finish_save_if_stopped(checkpoints):
            scores = validator(step, state)
    except NotFiniteError:
        with processes.sync_errors():
            checkpoints.withdraw(step)
        raise
    with processes.sync_errors():
        checkpoints.add_metrics(step, scores)


def stop_requested(step: int, stop: StopFlag, checkpoints: Checkpoints) -> int:
    """Return the exit code of a signal that any process has received, else 0. A failed save raises here.

    With several processes, they compare their flags only at steps where they wait for the devices anyway.
    """
    if jax.process_count() > 1 and step % MAX_STEPS_IN_FLIGHT:
        return 0
    with processes.sync_errors() as agreed:
        checkpoints.poll()
        agreed.value = stop.code or 0
    return agreed.value


def build_model(config: ConfigDict) -> models.AgeGenderNet:
    """Return the net of `config` for training: BatchNorm averages its statistics over the devices."""
    return models.from_config(config.model, axis_name=parallel.AXIS)


def make_driver(config: ConfigDict, model, tx, devices=None, train_age: np.ndarray | None = None):
    """Return the compiled training step of `config` in its driver, `shard_map` or `pmap`.

    Args:
      train_age: int [N, 2], the age buckets of the train split, for `loss.age_balance`; None to leave that out.
    """

    def prepare_images(keys, images):
        return data.normalize_float(augment(keys, images, config.augment))

    balance = config.loss.age_balance if train_age is not None else 0
    age_loss = functools.partial(
        losses.age_loss,
        kind=config.loss.age,
        spread=config.loss.age_spread,
        bucket_weights=losses.bucket_weights(train_age, NUM_AGE_BUCKETS, balance) if balance else None,
    )
    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.fold_in(jax.random.key(config.seed), 1),
        prepare_images=prepare_images,
        age_weight=config.loss.age_weight,
        gender_weight=config.loss.gender_weight,
        label_smoothing=config.loss.label_smoothing,
        age_loss=age_loss,
        mixup=config.augment.mixup,
        accumulate=config.accumulate,
        remat=config.remat,
        ema_decay=config.optimizer.ema,
    )
    return parallel.driver(config.parallel, step, devices)
