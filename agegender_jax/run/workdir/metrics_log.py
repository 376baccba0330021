"""metrics.jsonl, and the TensorBoard events next to it."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agegender_jax import files


class MetricsLog:
    """metrics.jsonl: one JSON object per line, with `step` and `split`. NaN is written as null."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(self, row: dict) -> None:
        """Add a line; lines of val are on disk when this returns."""
        with open(self.path, "ab") as file:
            file.write(files.to_json(row).encode() + b"\n")
        if row["split"] == "val":
            self.sync()

    def sync(self) -> None:
        """Return once all lines are on disk."""
        if self.path.exists():
            files.sync(self.path)

    def read(self) -> list[dict]:
        """Return all complete lines, in order; an incomplete one is skipped."""
        return [row for _, row in self._lines()]

    def truncate_after(self, step: int) -> None:
        """Remove, atomically, the lines after `step`, which a resumed run writes again, and an incomplete line."""
        self._keep(lambda row: row["step"] <= step)

    def remove(self, step: int, split: str) -> None:
        """Remove the lines of a step and split, which a resumed run writes again."""
        self._keep(lambda row: (row["step"], row["split"]) != (step, split))

    def _keep(self, wanted: Callable[[dict], bool]) -> None:
        content = b"".join(line + b"\n" for line, row in self._lines() if wanted(row))
        if self.path.exists() and self.path.read_bytes() != content:
            files.replace(self.path, content)

    def _lines(self) -> list[tuple[bytes, dict]]:
        lines = []
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row:
                lines.append((line, row))
        return lines


class TensorBoard:
    """Event files in the workdir, without TensorFlow. Training continues without them if they cannot be written.

    The calling thread writes the rows: tensorboardX's own writer passes them to another thread, which ends at the first
    error and leaves training waiting for it.

    Args:
      folder: the workdir.
      start: the step at which the run resumes; TensorBoard hides events after it.
    """

    def __init__(self, folder: str | Path, start: int = 0):
        module = tensorboard()
        self._event, self._scalar = module.proto.event_pb2.Event, module.summary.scalar
        self._file: Any = None
        with self._until_it_fails():
            module.event_file_writer.directory_check(str(folder))
            self._file = module.event_file_writer.EventsWriter(str(Path(folder) / "events"))
            if start:
                begin = module.proto.event_pb2.SessionLog(status=module.proto.event_pb2.SessionLog.START)
                self._write(step=start + 1, file_version="brain.Event:2")
                self._write(step=start + 1, session_log=begin)
            self._file.flush()

    def append(self, row: dict) -> None:
        """Write the numbers of a line of metrics.jsonl, as `<split>/<name>`."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
        with self._until_it_fails():
            if self._file is not None:
                for name, value in numbers.items():
                    self._write(step=row["step"], summary=self._scalar(f"{row['split']}/{name}", value))
                self._file.flush()

    def close(self) -> None:
        with self._until_it_fails():
            if self._file is not None:
                self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write_event(self._event(wall_time=time.time(), **fields))

    @contextlib.contextmanager
    def _until_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._file = None


def tensorboard() -> Any:
    """Import tensorboardX without PyTorch, whose import takes seconds if it is installed.

    It is imported here because steps on random images do not need it.
    """
    sys.modules.setdefault("torch", None)
    try:
        import tensorboardX.event_file_writer
        import tensorboardX.proto.event_pb2
        import tensorboardX.summary
    finally:
        if sys.modules["torch"] is None:
            del sys.modules["torch"]
    return tensorboardX
