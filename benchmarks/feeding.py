"""Measure the input pipeline alone, and a whole training compared with its step alone."""

import contextlib
import copy
import statistics
import tempfile
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax.data.pipeline import PREFETCH
from agegender_jax.run import checks, dataset, train
from agegender_jax.run.host.progress import Progress
from benchmarks import steps
from benchmarks.timing import WARMUP, Compilations, Timed, process_age, seconds_of

LOG_LINES = 12  # of a measured job, besides the first; as many turns with the step alone


def measure_input(config: ConfigDict, count: int) -> tuple[list[float], dict]:
    """Return seconds per batch, copied to the devices as in training, and images_per_second of `count` batches."""
    ahead = WARMUP + PREFETCH  # batches that are ready before the clock starts
    with Progress() as progress:
        faces = dataset.load_dataset(config, progress.prepare)
        checks.batch_fits(faces, config)
        batches = faces.train_batches(config, 0, ahead + count, progress.prepare)
    driver = train.make_driver(config, None, None)

    def step() -> None:
        jax.block_until_ready(driver.split(next(batches)))

    seconds = [seconds_of(step) for _ in range(ahead + count)][ahead:]
    return seconds, {"images_per_second": config.batch_size * count / sum(seconds)}


class Enough(Exception):
    """A measured training has logged enough lines."""


class Turns(Progress):
    """Run the step alone after each train line of a training, for as many steps as that line; finally end the training.

    Attributes:
      rows: the train lines.
      alone: seconds of the steps alone after each of them.
      first_step: time.perf_counter when the first step was dispatched.
    """

    def __init__(self, step: Timed, every: int):
        super().__init__()
        self.rows, self.alone, self.first_step = [], [], 0.0
        self._step, self._every = step, every

    def step(self, step: int) -> None:
        super().step(step)
        self.first_step = self.first_step or time.perf_counter()

    def row(self, row: dict) -> None:
        super().row(row)
        self.rows.append(row)
        self.alone.append(self._step.run(self._every))
        if len(self.rows) > LOG_LINES:
            raise Enough


def measure_fit(config: ConfigDict, count: int) -> tuple[list[float], Timed, dict]:
    """Train on `data.source` for `count` steps after the first log line, alternating with the step alone.

    Returns the seconds of a step per log line, the step alone, and further keys of the line. Validation is not
    included, as in the images_per_second that a job logs. start_s is from the start of the process to the first step,
    without compilation.
    """
    jax.devices()  # starting the backend belongs to the start
    age = process_age()
    every = -(-count // LOG_LINES)
    timed = Timed(steps.train(config))
    turns = Turns(timed, every)
    job = copy.deepcopy(config)
    job.num_steps, job.log.every_steps, job.eval.every_epochs = every * (LOG_LINES + 1) + 1, every, 10**9
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Compilations() as compilations:
        start = time.perf_counter()
        with contextlib.suppress(Enough):
            train.fit(job, f"{folder}/run", ["launch.benchmark"], turns)
    rows = turns.rows[1:]
    seconds = config.batch_size / np.array([row["images_per_second"] for row in rows])
    alone = np.array([statistics.mean(block) for block in turns.alone])
    shares = (alone[:-1] + alone[1:]) / 2 / seconds  # of each line, by the blocks on both sides of it
    more = {
        "steps": every * len(rows),
        "images_per_second": float(config.batch_size / seconds.mean()),
        "compile_s": compilations.seconds,
        "compile_cached": compilations.cached,
        "data_wait": float(np.average([row["data_wait"] for row in rows], weights=seconds)),
        "of_step_alone": float(np.median(shares)),
        "block_ratios": {"min": float(shares.min()), "max": float(shares.max())},
        "start_s": age + turns.first_step - start - compilations.seconds,
    }
    return seconds.tolist(), timed, more
