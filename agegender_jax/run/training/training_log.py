"""Log a training: metrics.jsonl, TensorBoard events and the progress display, with images per second."""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from ml_collections import ConfigDict

from agegender_jax import optim
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir
from agegender_jax.run.workdir.metrics_log import MetricsLog, TensorBoard


class Recorder:
    """A context manager that writes the rows of one run; only process 0 writes files.

    On entry the log is truncated after step `start`, and results of a shorter run are removed.
    """

    def __init__(
        self, config: ConfigDict, folder: Workdir, progress: Progress, steps_per_epoch: int, num_steps: int, start: int
    ):
        self.config, self.folder, self.progress = config, folder, progress
        self.steps_per_epoch, self.num_steps, self.start = steps_per_epoch, num_steps, start
        self.learning_rate = optim.schedule(config.optimizer, num_steps)
        self.is_main = processes.is_main()
        self._logged = 0  # the step of the last train row
        self.restart_clock(start)

    def __enter__(self) -> "Recorder":
        with processes.sync_errors():
            if self.is_main:
                self.log = MetricsLog(self.folder.metrics)
                for path in (self.folder.results, self.folder.calibration):
                    path.unlink(missing_ok=True)
                self._begin()
        return self

    def __exit__(self, *error) -> None:
        if self.is_main:
            self.board.close()

    def rewind(self, step: int) -> None:
        """Remove the rows after `step`, which the run repeats."""
        self.start = step
        with processes.sync_errors():
            if self.is_main:
                self.board.close()
                self._begin()

    def _begin(self) -> None:
        self.log.truncate_after(self.start)
        self._logged = max((row["step"] for row in self.log.read() if row["split"] == "train"), default=0)
        self.board = TensorBoard(self.folder.path, self.start)

    def remove_val(self, step: int) -> None:
        """Remove the val row of a step that is validated again."""
        with processes.sync_errors():
            if self.is_main:
                self.log.remove(step, "val")

    def sync(self) -> None:
        """Return once all rows are on disk, before a checkpoint is saved from which a run resumes after them."""
        if self.is_main:
            self.log.sync()

    def restart_clock(self, step: int) -> None:
        """Measure images per second and waiting time from `step` on."""
        self._time, self._step, self._waited = time.perf_counter(), step, 0.0

    def timed(self, batches: Iterator[Any], split: Callable[[Any], Any]) -> Iterator[Any]:
        """Yield `split(batch)` for each batch; the time for reading it counts as waiting."""
        self.restart_clock(self.start)
        while True:
            before = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - before
            if batch is None:
                return
            yield split(batch)

    def log_train(self, step: int, sums: dict[str, Any], left_out: Collection[int] = ()) -> None:
        """Write the means over the steps since the last train row.

        Args:
          left_out: the steps of the run that changed no weight. If these are all steps, the means are null. The row
            gives their number as `skipped` if there are any or if the run may skip some.
        """
        sums = {name: float(value) for name, value in sums.items()}
        count = sums.pop("steps")
        before = sum(other <= step for other in left_out)
        skipped = {"skipped": sum(self._logged < other <= step for other in left_out)}
        elapsed = max(time.perf_counter() - self._time, 1e-9)
        self.write(
            {
                **self.position(step, "train"),
                **{name: value / count if count else None for name, value in sums.items()},
                **(skipped if left_out or self.config.train.on_nonfinite == "skip" else {}),
                "lr": float(self.learning_rate(max(step - 1 - before, 0))),
                "images_per_second": round((step - self._step) * self.config.batch_size / elapsed, 1),
                "data_wait": round(self._waited / elapsed, 4),
            }
        )
        self._logged = step
        self.restart_clock(step)

    def position(self, step: int, split: str) -> dict:
        """Return the first fields of a row: step, epoch and split."""
        return {"step": step, "epoch": round(step / self.steps_per_epoch, 3), "split": split}

    def write(self, row: dict) -> None:
        """Write a row to the log, TensorBoard and the progress display."""
        if self.is_main:
            self.log.append(row)
            self.board.append(row)
        self.progress.row(row)
