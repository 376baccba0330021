"""The input pipeline alone, and a job that it feeds beside its step alone."""

import contextlib
import copy
import statistics
import tempfile
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax.data.pipeline import PREFETCH
from agegender_jax.run import inputs, steps, trainer
from agegender_jax.run.progress import Progress
from agegender_jax.run.timing import WARMUP, Compilations, Timed, process_age, seconds_of

LOG_LINES = 3  # of a measured job, besides the first


def measure_input(config: ConfigDict, count: int) -> tuple[list[float], dict]:
    """Seconds of `count` batches as training gets them, copied to the devices and dropped; and images_per_second."""
    ahead = WARMUP + PREFETCH  # what is gathered before the clock starts
    with Progress() as progress:
        faces = inputs.load(config, progress.prepare)
        inputs.check_batch(faces, config)
        batches = faces.train_batches(config, 0, ahead + count, progress.prepare)
    driver = trainer.make_driver(config, None, None)

    def step() -> None:
        jax.block_until_ready(driver.split(next(batches)))

    seconds = [seconds_of(step) for _ in range(ahead + count)][ahead:]
    return seconds, {"images_per_second": config.batch_size * count / sum(seconds)}


class Enough(Exception):
    """A measured job has logged what was wanted."""


class Watch(Progress):
    """Ends the job once its train lines tell of `count` steps after the first line.

    Attributes:
      rows: the train lines.
      first_step: when the first step was on its way, by time.perf_counter.
    """

    def __init__(self, count: int):
        super().__init__()
        self.rows, self.first_step, self._count = [], 0.0, count

    def step(self, step: int) -> None:
        super().step(step)
        self.first_step = self.first_step or time.perf_counter()

    def row(self, row: dict) -> None:
        super().row(row)
        self.rows.append(row)
        if row["step"] - self.rows[0]["step"] >= self._count:
            raise Enough


def measure_fit(config: ConfigDict, count: int) -> tuple[list[float], Timed, dict]:
    """Trains on `data.source` for `count` steps after the first log line, and the step alone before and after.

    Returns the seconds of a step, for each log line; the step alone; and more keys of the line. Validation is left
    out, as it is from the images_per_second that a job logs. start_s counts from the start of the process to the
    first step, without what compilation took.
    """
    jax.devices()  # starting the backend belongs to the start
    age = process_age()
    alone = Timed(*steps.train(config))
    before = config.batch_size / statistics.median(alone.run(count))
    job, every = copy.deepcopy(config), -(-count // LOG_LINES)
    job.num_steps, job.log.every_steps, job.eval.every_epochs = every * (LOG_LINES + 1) + 1, every, 10**9
    watch = Watch(count)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Compilations() as compilations:
        begun = time.perf_counter()
        with contextlib.suppress(Enough):
            trainer.fit(job, f"{folder}/run", ["launch.benchmark"], watch)
    after = config.batch_size / statistics.median(alone.run(count))
    rows = watch.rows[1:]
    sizes = np.diff([row["step"] for row in watch.rows])
    seconds = sizes * config.batch_size / [row["images_per_second"] for row in rows]
    rate = float(config.batch_size * sizes.sum() / seconds.sum())
    more = {
        "steps": int(sizes.sum()),
        "images_per_second": rate,
        "compile_s": compilations.seconds,
        "compile_cached": compilations.cached,
        "data_wait": float(np.average([row["data_wait"] for row in rows], weights=seconds)),
        "step_alone": {"before": before, "after": after},
        "of_step_alone": rate / statistics.mean((before, after)),
        "start_s": age + watch.first_step - begun - compilations.seconds,
    }
    return (seconds / sizes).tolist(), alone, more
