"""NaN and infinity in training: the step at which they began, and the reaction that `train.on_nonfinite` selects.

`nonfinite.jsonl` in the workdir has one line per event: {"step", "action", "files"}, where files are those of the
step's batch; step is null if a weight became bad although no loss did. A rollback also has "resumed", the step to which
the run returned, and "excluded", the first and the last step whose batches the run leaves out from then on.
"""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import files
from agegender_jax.errors import NotFiniteError
from agegender_jax.run import checks
from agegender_jax.run.checks import finite_numbers
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir

MAX_SKIPPED = 10  # steps in a row
MAX_ROLLBACKS = 3  # of a run, over all its starts
DIVERGED = 1e4  # nats; an untrained net has 2.5 for the age, and the log of a float32 probability is above -104
SHOWN = 3  # files in a message


class NonfiniteMonitor:
    """Watch the numbers of a run. All processes see the same numbers and make the same decisions.

    Attributes:
      left_out: the steps that changed no weight: skipped, or excluded by a rollback.
      excluded: the steps that a rollback excluded.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, folder: Workdir, progress: Progress):
        self.config, self.dataset, self.folder, self.progress = config, dataset, folder, progress
        self.policy = config.train.on_nonfinite
        self.events: list[dict] = []

    def start(self, step: int, sums: dict[str, Any]) -> None:
        """Begin after `step`: read the events of earlier starts, and drop those of steps that the run repeats."""
        with processes.sync_errors():
            if processes.is_main():
                self._read(step)
        self.events = processes.broadcast_value([event | {"files": []} for event in self.events])
        self.excluded = {
            excluded
            for event in self.events
            if event["action"] == "rollback"
            for excluded in range(event["excluded"][0], event["excluded"][1] + 1)
        }
        skipped = {event["step"] for event in self.events if event["action"] == "skip"}
        self.left_out = self.excluded | skipped
        self._in_a_row = next(count for count in range(step + 1) if step - count not in skipped)
        self._pending: list[tuple[int, jax.Array]] = []  # values of steps that were dispatched
        self._counted = float(sums["steps"])

    def restart_sums(self) -> None:
        """Note that the sums of the state are zero again."""
        self.check_steps()
        self._counted = 0.0

    def watch(self, step: int, sums: dict[str, jax.Array]) -> None:
        """Note the sums of a step that was dispatched, without waiting for it."""
        self._pending.append((step, _observe(sums)))

    def check_steps(self) -> None:
        """Wait for the steps watched so far, and record those that were skipped.

        Raises:
          NotFiniteError: the loss or gradient of a step is not finite, or too many steps in a row were skipped.
        """
        pending, self._pending = self._pending, []
        for step, observed in pending:
            counted, finite = np.asarray(observed)
            if not finite:
                raise self._error(f"the loss or a weight is not finite at or shortly before step {step}", step)
            self._in_a_row = 0 if counted > self._counted else self._in_a_row + 1
            self._counted = counted
            if not self._in_a_row:
                continue
            self.left_out.add(step)
            self._record({"step": step, "action": "skip", "files": self.dataset.batch_files(self.config, step)})
            self.progress.warn(f"step {step} is skipped: its loss, gradient or update is not finite")
            if self._in_a_row == MAX_SKIPPED:
                what = f"the loss or a weight is not finite in {MAX_SKIPPED} steps in a row, up to step {step}"
                raise self._error(what, step)

    def check(self, step: int, tree: Any) -> None:
        """Raise NotFiniteError if a number in the pytree, a part of the state after `step`, is not finite."""
        if not checks.is_finite(tree):
            raise self._error(f"the loss or a weight is not finite at or shortly before step {step}", None)

    def check_loss(self, step: int, sums: dict[str, Any]) -> None:
        """Raise NotFiniteError if the mean loss of a head over the sums shows that the run has diverged."""
        count = float(sums["steps"])
        loss = max(float(sums[name]) for name in ("loss_age", "loss_gender")) / max(count, 1)
        if loss > DIVERGED:
            raise self._error(
                f"the loss has diverged: a mean of {loss:.3g} over the {count:.0f} steps up to {step}", None
            )

    def check_may_roll_back(self, error: NotFiniteError) -> None:
        """Record and raise the error, unless the policy and the number of rollbacks allow another rollback."""
        count = self._rollbacks()
        if self.policy == "rollback" and count < MAX_ROLLBACKS:
            return
        self._record({"step": error.step, "action": "stop", "files": self._files(error.step)})
        if self.policy == "rollback":
            what = f"{error.what}, after {count} rollbacks"
            raise NotFiniteError(what, error.where, error.fix, error.step) from error
        raise error

    def roll_back(self, error: NotFiniteError, step: int, restored: int) -> None:
        """Record that the run returns from `step` to step `restored`, and leaves batches out from now on.

        It leaves out the batch of the first step whose loss or gradient was not finite, so that the run does not repeat
        it. If there was no such step, any batch after `restored` may be the cause.
        """
        first, last = (error.step, error.step) if error.step else (restored + 1, step)
        event = {"step": error.step, "action": "rollback", "resumed": restored, "excluded": [first, last]}
        self._record(event | {"files": self._files(error.step)})
        batches = f"the batch of step {first}" if first == last else f"the batches of steps {first} to {last}"
        count = f"rollback {self._rollbacks()} of {MAX_ROLLBACKS}"
        self.progress.warn(f"{error.what}; back to step {restored}, without {batches} ({count})")

    def _rollbacks(self) -> int:
        return sum(event["action"] == "rollback" for event in self.events)

    def _error(self, what: str, step: int | None) -> NotFiniteError:
        batch = self._files(step)
        shown = ", ".join(map(files.printable, batch[:SHOWN]))
        more = f" and {len(batch) - SHOWN} more" if len(batch) > SHOWN else ""
        where = f"batch of step {step}: {shown}{more}; listed in {self.folder.nonfinite}" if batch else "training"
        fixes = [f"lower --config.optimizer.lr (now {self.config.optimizer.lr:g})"]
        fixes += [] if self.config.optimizer.clip_norm else ["set --config.optimizer.clip_norm=1"]
        fixes += ["set --config.train.on_nonfinite=skip"] if step and self.policy == "stop" else []
        return NotFiniteError(what, where, f"{', or '.join(fixes)}; {finite_numbers.GO_ON}", step)

    def _files(self, step: int | None) -> list[str]:
        return self.dataset.batch_files(self.config, step) if step else []

    def _record(self, event: dict) -> None:
        self.events.append(event)
        with processes.sync_errors():
            if processes.is_main():
                with open(self.folder.nonfinite, "ab") as file:
                    file.write(files.to_json(event).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())

    def _read(self, step: int) -> None:
        """Read the events in the workdir that still apply after `step`, and remove the others from the file."""
        path = self.folder.nonfinite
        content = path.read_bytes() if path.exists() else b""
        self.events = [event for event in map(_parse, content.split(b"\n")) if _holds(event, step)]
        lines = "".join(files.to_json(event) + "\n" for event in self.events)
        if lines.encode() != content:
            files.replace(path, lines)


@jax.jit
def _observe(sums: dict[str, jax.Array]) -> jax.Array:
    """Return the number of steps in the sums, and 1 if the loss and the gradient's norm are finite, else 0."""
    return jnp.stack([sums["steps"], jnp.isfinite(sums["loss"] + sums["grad_norm"]).astype(jnp.float32)])


def _parse(line: bytes) -> dict:
    """Return an event; {} for an incomplete or empty line."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _holds(event: dict, step: int) -> bool:
    """Return whether an event still applies to a run that resumes after `step`, because it will not be repeated."""
    if event.get("action") == "rollback":
        excluded = event.get("excluded")
        return isinstance(excluded, list) and len(excluded) == 2 and all(isinstance(x, int) for x in excluded)
    return event.get("action") == "skip" and isinstance(event.get("step"), int) and event["step"] <= step
