"""Progress on stdout: a bar with the latest metrics on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from agegender_jax import files
from agegender_jax.run.host.signals import StopFlag

PREPARE_EVERY = 10.0  # seconds between plain lines while data are prepared


class StatusBars(Bars):
    """Bars with a line of text below them."""

    status = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.status:
            yield Text(self.status, no_wrap=True, overflow="ellipsis")


class Progress:
    """Everything that a command prints on stdout. After the pipe is closed (`| head`), nothing more is printed.

    Args:
      silent: print nothing; for all processes of a run except process 0.
      stop: checked at every step of a preparation.
    """

    def __init__(self, silent: bool = False, stop: StopFlag | None = None):
        self.stop = stop
        self._open = sys.stdout is not None and not silent
        self.terminal = self._open and sys.stdout.isatty()
        self._bars: Any = None  # StatusBars on a terminal
        self._task: Any = None
        self._prepared_at, self._prepared_text = 0.0, ""
        self._epochs, self._steps_per_epoch = 0.0, 1
        self._started: tuple[float, int] | None = None  # when the first step was dispatched, and its number

    def __enter__(self) -> "Progress":
        if self.terminal:
            text = TextColumn("{task.description}", markup=False)
            columns = (text, BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
            bars = StatusBars(*columns, console=Console(soft_wrap=True, highlight=False, markup=False))
            self._bars = bars
            self._do(bars.start)
        return self

    def __exit__(self, *error) -> None:
        if self._bars is not None:
            self._do(self._bars.stop)

    def note(self, text: str) -> None:
        """Print a line."""
        self._line(text)

    def warn(self, text: str) -> None:
        self._line(f"WARNING: {text}")

    def show(self, renderable) -> None:
        """Print a table or anything else that rich can print."""
        console = self._bars.console if self._bars is not None else Console(width=100, markup=False)
        self._do(console.print, renderable)

    def prepare(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` items of the preparation `text` are done; plain lines come every ten seconds.

        Raises:
          Stopped: a signal has arrived.
        """
        if self.stop is not None:
            self.stop.check(text)
        if self._bars is not None:
            if text != self._prepared_text:
                self._new_task(text, total)
            self._do(self._bars.update, self._task, completed=done, total=total)
        elif time.monotonic() - self._prepared_at > PREPARE_EVERY:
            self._prepared_at = time.monotonic()
            self._line(f"{text}: {done} of {total}")
        self._prepared_text = text

    def start(self, step: int, num_steps: int, steps_per_epoch: int) -> None:
        """Show that training begins after `step` of `num_steps` steps."""
        self._epochs, self._steps_per_epoch = num_steps / steps_per_epoch, steps_per_epoch
        self._num_steps, self._started = num_steps, None
        self._line(f"training: {num_steps} steps, {steps_per_epoch} an epoch; compiling the step")
        if self._bars is not None:
            self._new_task(self._epoch(step), num_steps, completed=step)

    def step(self, step: int) -> None:
        """Show that a step was dispatched. The remaining time is estimated after the compilation of the first step."""
        if self._started is None:
            self._started = time.monotonic(), step
        if self._bars is not None:
            self._do(self._bars.update, self._task, completed=step, description=self._epoch(step))

    def row(self, row: dict) -> None:
        """Print a row of metrics.jsonl. On a terminal train rows replace each other below the bar."""
        train = row["split"] == "train"
        scores = ("loss", "loss"), ("age", "age_accuracy"), ("gender", "gender_accuracy"), ("AABD", "aabd")
        parts = [f"{name} {_number(row[key])}" for name, key in (scores[:3] if train else scores)]
        if train:
            parts += [f"{row['images_per_second']:.0f} images/s", f"data wait {row['data_wait']:.0%}"]
        if train and self._bars is not None:
            self._bars.status = f"{row['split']}  {'  '.join(parts)}"
            return
        parts += self._eta(row["step"]) if train else []
        self._line("  ".join([self._epoch(row["step"]), f"{row['split']:5}", *parts]))

    def _epoch(self, step: int) -> str:
        if not self._epochs:  # nothing is trained by steps
            return f"step {step}"
        return f"epoch {step / self._steps_per_epoch:.2f}/{self._epochs:.2f}"

    def _eta(self, step: int) -> list[str]:
        started, first = self._started or (0.0, step)
        if step <= first:
            return []
        seconds = int((time.monotonic() - started) / (step - first) * (self._num_steps - step))
        return [f"ETA {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"]

    def _new_task(self, text: str, total: int, completed: int = 0) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(text, total=total, completed=completed)

    def _line(self, text: str) -> None:
        text = "\n".join(map(files.printable, text.split("\n")))  # names may hold a terminal's control sequences
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        self._do(self._bars.console.print if self._bars is not None else _print, text)

    def _do(self, action, *args, **kwargs) -> None:
        if not self._open:
            return
        try:
            action(*args, **kwargs)
        except (OSError, ValueError, SystemExit):  # rich turns a broken pipe into SystemExit
            self._open = False
            _discard_stdout()


def _print(text: str) -> None:
    print(text, flush=True)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, so that the interpreter's last flush does not fail, either."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
    except (OSError, ValueError):
        pass
