"""Rows of pictures as JSON lines and CSV, written as soon as they are ready; a later call can continue them."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agegender_jax import csv_cells, files

Restate = Callable[[dict[str, Any]], dict[str, Any]]


class RowFiles:
    """Both files in a folder, open for appending rows.

    Args:
      folder: folder of the files.
      stem: stem of their names.
      columns: fields of a row, "file" and "faces" (the number of rows of a picture with faces) among them.
      states: state of each picture of this call, by name, see `PictureFile.state`. Earlier rows of a picture that has
        changed are removed.
      restate: returns an earlier row with its fields for the options of this call; None if these are the same.

    Attributes:
      done: names of the pictures whose rows are complete.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        columns: Sequence[str],
        states: Mapping[str, list[int] | None],
        restate: Restate | None = None,
    ):
        self.path, self._columns, self._states = folder / f"{stem}.jsonl", columns, states
        self.done = _repair(self.path, states, restate)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(self._columns)
        table = self.path.with_suffix(".csv")
        files.replace(table, text.getvalue())
        self._csv = open(table, "a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._csv, lineterminator="\n")
        for row in read(self.path):
            self._write_csv(row)
        self._csv.flush()
        self._jsonl = open(self.path, "ab")

    def __enter__(self) -> "RowFiles":
        return self

    def __exit__(self, *error) -> None:
        self._jsonl.close()
        self._csv.close()

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows of a picture."""
        stated = ({**row, "state": self._states.get(row["file"])} for row in rows)
        try:
            self._jsonl.write("".join(files.to_json(row) + "\n" for row in stated).encode())
            self._jsonl.flush()
            for row in rows:
                self._write_csv(row)
            self._csv.flush()
        except OSError as error:
            error.filename = str(self.path)  # an open file's error names none
            raise

    def _write_csv(self, row: dict[str, Any]) -> None:
        self._writer.writerow([cell(row[name]) for name in self._columns])


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a .jsonl file; nothing if there is none."""
    if path.exists():
        with open(path, "rb") as lines:
            yield from map(json.loads, lines)


def states(path: Path) -> Iterator[tuple[str, list[int] | None]]:
    """Yield the name and the state of the picture of each row of a .jsonl file, which may have incomplete lines."""
    if path.exists():
        with open(path, "rb") as lines:
            for line in map(_parsed, lines):
                if line.name is not None:
                    yield line.name, line.state


def cell(value: Any) -> str:
    """Return the text of a CSV cell, with control characters escaped, and an apostrophe before a formula."""
    if value is None:
        return ""
    if isinstance(value, float | int):
        return str(value)
    if isinstance(value, list | tuple):
        return " ".join(cell(item) for item in value)
    if not isinstance(value, str):
        return str(value)
    return csv_cells.guard(files.printable(value))


def _repair(path: Path, states: Mapping[str, list[int] | None], restate: Restate | None) -> set[str]:
    """Remove lines that are no rows and the rows of incomplete or changed pictures; return the names of the others.

    The other rows are restated.
    """
    done: set[str] = set()
    if not path.exists():
        return done
    temporary = path.with_suffix(".tmp")
    with open(path, "rb") as earlier, open(temporary, "wb") as file:
        for name, group in itertools.groupby(map(_parsed, earlier), key=lambda parsed: parsed.name):
            if name is None:
                continue
            lines = list(group)
            count, state = lines[0].number, lines[0].state
            if name not in done and len(lines) == count and states.get(name, state) == state:
                done.add(name)
                rows = (f"{files.to_json(restate(line.row))}\n".encode() if restate else line.text for line in lines)
                file.writelines(rows)
        files.publish(file, path)
    return done


class _Line(NamedTuple):
    """A line of a .jsonl file: its row, and the name, the number of rows and the state of the picture.

    The name of a line that is no row is None.
    """

    text: bytes
    row: dict[str, Any]
    name: str | None
    number: int
    state: list[int] | None


def _parsed(line: bytes) -> _Line:
    try:
        row = json.loads(line) if line.endswith(b"\n") else {}
        return _Line(line, row, row["file"], max(1, row["faces"]), row["state"])
    except files.MALFORMED:
        return _Line(line, {}, None, 0, None)
