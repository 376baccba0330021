"""Saving while training goes on, and going on where a save left off."""

import errno
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from agegender_jax import files
from agegender_jax.checkpoint import manifest, reading, tree
from agegender_jax.errors import CheckpointError

KEPT = 2  # the latest, and one to fall back to
ROOM = 1.3  # free space asked for, in sizes of the state
FULL = re.compile(r"RESOURCE_EXHAUSTED|No space left|quota exceeded", re.IGNORECASE)


class Checkpoints:
    """The folder `checkpoints/` of a run: `<step>/` with the state, config and metrics of one step.

    One thread does the whole of a save: Orbax's write, the checksums, the manifest, the removal of older
    steps. So nothing but the copy to the host holds up training, and no two writers share the folder. A step
    grows in `<step>.saving` and is renamed when its manifest is on the disk; it leaves by a rename too.

    The two latest good steps and the best stay. Only process 0 writes.

    Args:
      folder: made if absent; leftovers of a killed save are removed from it.
      notice: is told of each checkpoint that is passed over.
    """

    def __init__(self, folder: str | Path, notice: Callable[[str], None] = lambda text: None):
        self.folder = Path(folder).resolve()
        self._notice = notice
        self._bad: set[int] = set()
        self._pending: Future | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        if jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def save(self, step: int, state: Any, config: dict, metrics: dict | None = None) -> None:
        """Copies `state` to the host and returns; the rest goes on behind.

        Args:
          state: any pytree of arrays; None leaves are left out.
          metrics: plain numbers; "val_loss" chooses the best step, and a step without is never the best.

        Raises:
          CheckpointError: the save before failed, or the disk has no room. Earlier steps are intact.
        """
        self.finish()
        if jax.process_index() == 0:
            nested = tree.to_dict(state)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(nested))
            self._check_room(step, size)
            self._pending = self._thread.submit(self._write, step, nested, config, metrics, size)

    def poll(self) -> None:
        """Raises the CheckpointError of a save that has failed; costs nothing while one runs."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Waits until the last save is on the disk; raises CheckpointError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Ends the thread after the last save. Never raises: call `finish` first to learn of failures."""
        try:
            self.finish()
        except CheckpointError as error:
            self._notice(error.what)
        self._thread.shutdown()

    def steps(self) -> list[int]:
        """The good steps, oldest first."""
        return sorted(self._records())

    def latest_step(self) -> int | None:
        return max(self._records(), default=None)

    def best_step(self) -> int | None:
        return reading.best_of(self._records())

    def restore_latest(self, template: Any) -> tuple[Any, int] | None:
        """The newest good state, NumPy leaves in the structure of `template`, and its step.

        Returns:
          None where nothing was ever saved.

        Raises:
          CheckpointError: nothing usable is left, or it is of another model.
        """
        return self._find("latest", template)

    def restore(self, which: int | str, template: Any) -> tuple[Any, int]:
        """The state of a step, of "best" or of "latest", and its step; CheckpointError if there is none."""
        found = self._find(which, template)
        if found is None:
            raise CheckpointError("there is no checkpoint", str(self.folder), "train first")
        return found

    def _find(self, which: int | str, template: Any) -> tuple[Any, int] | None:
        self.finish()
        return reading.find(self.folder, which, lambda place: reading.read_state(place, template), self._pass_over)

    def _pass_over(self, step: int, reason: str) -> None:
        self._bad.add(step)
        self._notice(f"checkpoint {step} is not used: {reason}")

    def _records(self) -> dict[int, dict]:
        found = reading.manifests(self.folder)
        return {step: record for step, record in found.items() if step not in self._bad}

    def _check_room(self, step: int, size: int) -> None:
        needed, free = int(ROOM * size), shutil.disk_usage(self.folder).free
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
            with tree.checkpointer() as orbax:
                orbax.save(growing / reading.STATE, nested)
            (growing / reading.CONFIG).write_text(files.to_json(config, indent=1), encoding="utf-8")
            manifest.write(growing, step, metrics)
            self._swap_in(growing, self.folder / str(step))
        except Exception as error:
            shutil.rmtree(growing, ignore_errors=True)
            if FULL.search(str(error)) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise self._full(step, int(ROOM * size), shutil.disk_usage(self.folder).free) from error
            raise CheckpointError(
                f"step {step} could not be saved: {reading.reason(error)}",
                str(self.folder),
                "see --debug for the whole error; the same command resumes at the last checkpoint",
            ) from error
        self._bad.discard(step)
        self._remove_old()

    def _swap_in(self, growing: Path, final: Path) -> None:
        """Renames; an older save of the same step steps aside and can be put back until it is gone."""
        aside = final.with_name(f"{final.name}.replaced")
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
            final.rename(aside)
        growing.rename(final)
        files.sync(self.folder)
        shutil.rmtree(aside, ignore_errors=True)

    def _remove_old(self) -> None:
        good = self._records()
        kept = {*sorted(good)[-KEPT:], reading.best_of(good)}
        for step in set(reading.step_folders(self.folder)) - kept:
            leaving = self.folder / f"{step}.leaving"
            (self.folder / str(step)).rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes what a killed process left; an older save that had stepped aside comes back."""
        for path in self.folder.iterdir():
            step, _, kind = path.name.partition(".")
            if not step.isdecimal() or kind not in ("saving", "replaced", "leaving") or not path.is_dir():
                continue
            if kind == "replaced" and not (self.folder / step).exists():
                path.rename(self.folder / step)
            else:
                shutil.rmtree(path, ignore_errors=True)
