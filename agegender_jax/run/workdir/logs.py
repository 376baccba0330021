"""metrics.jsonl and the TensorBoard events beside it."""

import json
import os
import sys
from pathlib import Path

from agegender_jax import files


class MetricsLog:
    """metrics.jsonl: one JSON object a line, with `step` and `split`. NaN is written as null."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(self, row: dict) -> None:
        """Add a line; lines of val are on the disk when this returns."""
        with open(self.path, "ab") as file:
            file.write(files.to_json(row).encode() + b"\n")
            if row["split"] == "val":
                file.flush()
                os.fsync(file.fileno())

    def read(self) -> list[dict]:
        """Return all whole lines, in order; a torn one is skipped."""
        return [row for _, row in self._lines()]

    def truncate_after(self, step: int) -> None:
        """Drop what a resumed run writes again after `step`, and a torn line, atomically."""
        content = b"".join(line + b"\n" for line, row in self._lines() if row["step"] <= step)
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
    """Event files in the workdir, without TensorFlow. Training continues without them where they cannot be written.

    Args:
      folder: the workdir.
      start: the step resumed at; events after it are hidden by TensorBoard.
    """

    def __init__(self, folder: str | Path, start: int = 0):
        writer = _summary_writer()
        self._writer = None
        try:
            self._writer = writer(str(folder), purge_step=start + 1 if start else None)
        except OSError:
            pass

    def append(self, row: dict) -> None:
        """Write the numbers of a line of metrics.jsonl, as `<split>/<name>`."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
        try:
            for name, value in numbers.items() if self._writer else ():
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])  # type: ignore[union-attr]
        except OSError:
            self._writer = None

    def close(self) -> None:
        try:
            if self._writer:
                self._writer.close()
        except OSError:
            pass


def _summary_writer() -> type:
    """Import tensorboardX's writer, without PyTorch: importing that, where it is installed, takes seconds.

    It is imported here because steps on random images need none.
    """
    sys.modules.setdefault("torch", None)
    try:
        from tensorboardX import SummaryWriter
    finally:
        if sys.modules["torch"] is None:
            del sys.modules["torch"]
    return SummaryWriter
