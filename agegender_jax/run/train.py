"""The training command: prepare the data, train or resume, and test the best checkpoint at the end.

With several processes, each takes its share of every batch. Only process 0 writes to the workdir and logs.
"""

import contextlib
import functools

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import models, optim
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.data import resolve, split_exceptions
from agegender_jax.run import checks
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.host import device_memory, processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import GRACE, stop_flag
from agegender_jax.run.training import final_test, initial_state, teacher
from agegender_jax.run.training.compiled_step import build_model, make_driver
from agegender_jax.run.training.loop import TrainingLoop
from agegender_jax.run.training.nonfinite import NonfiniteMonitor
from agegender_jax.run.training.training_log import Recorder
from agegender_jax.run.workdir import Workdir, training_summary, write_csv

__all__ = ["build_model", "fit", "make_driver"]


def fit(
    config: ConfigDict,
    workdir: str,
    command: list[str],
    progress: Progress | None = None,
) -> None:
    """Train `config` in `workdir`, or resume an earlier start of the same run.

    Args:
      command: the program's arguments, for run.json.
      progress: receives notes, bars and log rows; a new one if None.

    Raises:
      UserError: an error of the user, whose subclass gives the exit code.
      Stopped: after a signal, with everything saved.
      PeerReportedError, LocalError: with several processes, see `processes.report_errors_once`.
    """
    config_lib.validate(config)
    if models.is_solved(config.model):
        from agegender_jax.run.training import solve  # imports this module

        return solve.fit(config, workdir, command, progress)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.report_errors_once())
        stack.enter_context(device_memory.explained_memory(config))
        stop = stack.enter_context(stop_flag())
        is_main, folder = processes.is_main(), Workdir(workdir)
        stop.begin(0, GRACE if is_main else GRACE - 1)  # jax would abort the others if process 0 left first
        checks.before_data(config)
        resuming = False
        with processes.sync_errors():
            if is_main:
                resolve.check_outside(
                    split_exceptions.join(config.data.source, config.data.train_on), folder.path, "--workdir"
                )
                stack.enter_context(folder)
                resuming = checks.same_run(folder, config)
        progress = stack.enter_context(progress or Progress(silent=not is_main, stop=stop))

        dataset = prepare_dataset(config, folder, progress)
        steps_per_epoch = len(dataset.indices("train")) // config.batch_size
        num_steps = config.num_steps or config.num_epochs * steps_per_epoch
        tx = optim.build(config.optimizer, num_steps)
        model = build_model(config)
        load_teacher = functools.cache(functools.partial(teacher.load, config))
        checkpoints = Checkpoints(folder.checkpoints, notice=progress.note, on_saved=stop.mark_saved)
        stack.callback(checkpoints.close)

        trained_from = ", ".join(filter(None, (config.init_from, config.loss.teacher)))
        new_state = initial_state.initializer(config, model, tx)
        with processes.sync_errors():
            weights = initial_state.load_weights(config, folder, checkpoints, new_state, progress) if is_main else {}
            if is_main and checkpoints.is_empty():
                teacher.record(load_teacher(), folder)
        state = initial_state.restore_or_create(new_state, checkpoints, resuming, weights, num_steps, progress)
        start = int(state.step)
        if already_finished(start, num_steps, folder, progress):
            return

        with processes.sync_errors():
            taught_by = load_teacher() if start < num_steps else None  # which only a step needs
            if is_main:
                teacher.check_unchanged(taught_by, folder)
                folder.write_start(config, command, dataset.prepared, dataset.assignment, progress.note)
                final_test.warn_of_trained_val(folder, dataset, trained_from, progress)
        teacher.check_everywhere(taught_by)
        driver = make_driver(config, model, tx, train_age=dataset.targets("train")[0], teacher=taught_by)
        initial_state.warn_of_new_rate(config, checkpoints, start, steps_per_epoch, num_steps, progress)
        recorder = stack.enter_context(Recorder(config, folder, progress, steps_per_epoch, num_steps, start))
        monitor = NonfiniteMonitor(config, dataset, folder, progress)
        restore = functools.partial(
            initial_state.restore_again, config, folder, checkpoints, new_state, num_steps, progress
        )
        lengths = {"steps_per_epoch": steps_per_epoch, "num_steps": num_steps}
        TrainingLoop(
            config, dataset, driver, checkpoints, recorder, monitor, progress, stop, **lengths, restore=restore
        ).run(state)
        with processes.sync_errors():
            checkpoints.finish()
            folder.check_in_place()
            if is_main:
                folder.restore_start(config, command, dataset.prepared, dataset.assignment)
        final_test.test(folder, dataset, trained_from, config.log.figures, progress)


def already_finished(start: int, num_steps: int, folder: Workdir, progress: Progress) -> bool:
    """Return whether a run has been trained and tested; write a missing model card again."""
    if not processes.broadcast_value(start >= num_steps and folder.is_tested()):
        return False
    progress.note(f"already finished at step {start}; results in {folder.results}")
    if processes.is_main() and not folder.card.exists():
        training_summary.write_card(folder)
    return True


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
