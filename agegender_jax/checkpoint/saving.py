"""Save checkpoints in the background, and restore the state of a run."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from agegender_jax import files
from agegender_jax.checkpoint import manifest, reading, step_folders, tree
from agegender_jax.errors import CheckpointError, is_disk_full

KEEP_LATEST = 2  # the latest, and one to fall back to
ROOM = 1.3  # free space required, in sizes of the state


class Checkpoints:
    """The folder `checkpoints/` of a run: `<step>/` with the state, config and metrics of one step.

    One thread does the whole save: Orbax's write, the checksums, the manifest, and the removal of older steps. Training
    therefore waits only for the copy to the host, and the folder has a single writer. A step is written to
    `<step>.saving` and renamed once its manifest is on disk; it is also renamed before it is removed.

    The two latest usable steps and the best one are kept. A step that cannot be read, perhaps only temporarily, is
    never removed. Only process 0 writes.

    Args:
      folder: created if missing; leftovers of a killed save are removed from it.
      notice: called with a line about each checkpoint that cannot be used.
      on_saved: called in every process with each step that has reached the disk.
    """

    def __init__(
        self,
        folder: str | Path,
        notice: Callable[[str], None] = lambda text: None,
        on_saved: Callable[[int], None] = lambda step: None,
    ):
        self.folder = Path(folder).resolve()
        self._notice, self._on_saved = notice, on_saved
        self._bad: set[int] = set()  # damaged steps
        self._reported: set[int] = set()  # steps whose manifests could not be read
        self._pending: Future | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        if jax.process_index() == 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                step_folders.sweep(self.folder)
            except OSError as error:
                raise CheckpointError(
                    f"the checkpoints cannot be used: {error.strerror}",
                    str(error.filename or self.folder),
                    "check that the folder can be read and written; the same command resumes",
                ) from error

    def save(self, step: int, state: Any, config: dict, metrics: dict | None = None) -> None:
        """Copy `state` to the host and return; the rest is done in the background.

        Args:
          state: any pytree of arrays; None leaves are left out.
          metrics: plain numbers, by which `manifest.losses` selects the best step; a step without them is never
            selected.

        Raises:
          CheckpointError: the previous save failed, or the disk is full. Earlier steps are intact.
        """
        self.finish()
        if jax.process_index():
            self._on_saved(step)
            return
        nested = tree.to_dict(state)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(nested))
        self._check_room(step, size)
        self._pending = self._thread.submit(self._write, step, nested, config, metrics, size)

    def add_metrics(self, step: int, metrics: dict | None) -> None:
        """Add the metrics of a step that was saved without them, in the background; raise the same errors as `save`."""
        self.finish()
        if jax.process_index() == 0 and metrics is not None:
            self._pending = self._thread.submit(self._write_metrics, step, metrics)

    def is_scored(self, step: int) -> bool:
        """Return whether a usable step has metrics, saved with it or added later."""
        return (self._records().get(step) or {}).get("metrics") is not None

    def poll(self) -> None:
        """Raise the CheckpointError of a failed save; return at once while a save is running."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait until the last save is on disk; raise CheckpointError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """End the thread after the last save. Never raises: call `finish` first to learn of failures."""
        try:
            self.finish()
        except CheckpointError as error:
            self._notice(error.what)
        self._thread.shutdown()

    def is_empty(self) -> bool:
        """Return whether the folder has no step at all, readable or not."""
        return not reading.step_folders(self.folder)

    def steps(self) -> list[int]:
        """Return the usable steps, oldest first."""
        return sorted(self._records())

    def latest_step(self) -> int | None:
        return max(self._records(), default=None)

    def best_step(self) -> int | None:
        return reading.best_of(self._records())

    def restore_latest(self, template: Any) -> tuple[Any, int] | None:
        """Return the newest usable state, as NumPy leaves in the structure of `template`, and its step.

        Newer steps that cannot be used are renamed to `<step>.unreadable`: the run repeats them.

        Returns:
          None if nothing was ever saved.

        Raises:
          CheckpointError: no step is usable, or it belongs to another model or another version of this library.
        """
        restored = self._find("latest", template)
        if restored is not None:
            for step in reading.step_folders(self.folder):
                if step > restored[1]:
                    self._set_aside(step)
        return restored

    def restore(self, which: int | str, template: Any) -> tuple[Any, int]:
        """Return the state of a step, of "best" or of "latest", and its step; CheckpointError if there is none."""
        restored = self._find(which, template)
        if restored is None:
            raise CheckpointError("there is no checkpoint", str(self.folder), "train first")
        return restored

    def withdraw(self, step: int) -> None:
        """Rename a saved step that training cannot continue from, so that the next start uses the one before."""
        self.finish()
        if jax.process_index() == 0:
            self._set_aside(step)

    def _find(self, which: int | str, template: Any) -> tuple[Any, int] | None:
        self.finish()
        return reading.find(
            self.folder, which, lambda step_folder: reading.read_state(step_folder, template), self._pass_over
        )

    def _pass_over(self, step: int, reason: str) -> None:
        self._bad.add(step)
        self._notice(f"checkpoint {step} is not used: {reason}")

    def _set_aside(self, step: int) -> None:
        try:
            self._notice(f"checkpoint {step} is now called {step_folders.set_aside(self.folder, step).name}")
        except OSError as error:
            self._notice(f"checkpoint {step} cannot be renamed: {error.strerror}")

    def _records(self, unreadable: Callable[[int, str], None] = lambda step, why: None) -> dict[int, dict]:
        records = reading.manifests(self.folder, unreadable)
        return {step: record for step, record in records.items() if step not in self._bad}

    def _check_room(self, step: int, size: int) -> None:
        needed = int(ROOM * size)
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise self._failed(step, error) from error
        if free < needed:
            raise self._full(step, needed, free)

    def _full(self, step: int, needed: int, free: int) -> CheckpointError:
        return CheckpointError(
            f"the disk is full: a checkpoint of step {step} needs {needed:,} bytes, {free:,} are free",
            str(self.folder),
            "free some space; the same command resumes at the last checkpoint",
        )

    def _write(self, step: int, nested: dict, config: dict, metrics: dict | None, size: int) -> None:
        growing = self.folder / f"{step}.saving"
        try:
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            tree.write(growing / reading.STATE, nested)
            (growing / reading.CONFIG).write_text(files.to_json(config, indent=1), encoding="utf-8")
            manifest.write(growing, step, metrics)
            step_folders.swap_in(growing, self.folder / str(step))
        except Exception as error:
            shutil.rmtree(growing, ignore_errors=True)
            if is_disk_full(error):
                raise self._full(step, int(ROOM * size), self._free()) from error
            raise self._failed(step, error) from error
        self._bad.discard(step)
        self._on_saved(step)
        self._remove_old()

    def _write_metrics(self, step: int, metrics: dict) -> None:
        try:
            manifest.set_metrics(self.folder / str(step), metrics)
        except Exception as error:
            if is_disk_full(error):
                raise self._full(step, len(files.to_json(metrics)), self._free()) from error
            raise self._failed(step, error) from error
        self._remove_old()

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0

    def _failed(self, step: int, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"step {step} could not be saved: {reading.reason(error)}",
            str(self.folder),
            "check that the folder exists and can be written; the same command resumes at the last checkpoint",
        )

    def _remove_old(self) -> None:
        """Remove usable steps that are neither among the latest nor the best; unreadable ones stay."""
        try:
            good = self._records(self._report_unreadable)
            keep = {*sorted(good)[-KEEP_LATEST:], reading.best_of(good)}
            for step in good.keys() - keep:
                step_folders.remove(self.folder, step)
        except OSError as error:  # the new step is safe; the next save tries again
            self._notice(f"older checkpoints cannot be removed: {error.strerror}")

    def _report_unreadable(self, step: int, reason: str) -> None:
        if step not in self._reported | self._bad:
            self._reported.add(step)
            self._notice(f"WARNING: checkpoint {step} cannot be read and is left in place: {reason}")
