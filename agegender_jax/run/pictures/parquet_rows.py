"""Rows of pictures as a folder of Parquet files; a later call can continue them."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.run.pictures.jsonl_csv_rows import Restate, cell

_INTEGERS = ("face", "faces", "age_low", "age_high", "schema")
_NUMBERS = ("score", "age_years", "coverage")


class RowParts:
    """The Parquet files in a folder, to which new ones are added.

    Args:
      folder: folder of the files part-00000.parquet, part-00001.parquet and so on, in the order of the pictures.
      columns, states, restate: see `RowFiles`.

    Attributes:
      done: names of the pictures whose rows are complete.
    """

    def __init__(
        self,
        folder: Path,
        columns: Sequence[str],
        states: Mapping[str, list[int] | None],
        restate: Restate | None = None,
    ):
        self._folder, self._columns, self._states = folder, columns, states
        folder.mkdir(exist_ok=True)
        originals = {text(name): name for name in states}
        self.done: set[str] = set()
        self._next = 0
        for path in paths(folder):
            self._next = int(path.stem.rpartition("-")[2]) + 1
            rows = _read(path)
            names = {row["file"]: originals.get(row["file"], row["file"]) for row in rows}
            same = [row for row in rows if states.get(names[row["file"]], row["state"]) == row["state"]]
            if restate or len(same) < len(rows):  # of pictures that changed
                self._replace(path, [restate(row) for row in same] if restate else same)
            self.done |= {names[row["file"]] for row in same}

    def __enter__(self) -> "RowParts":
        return self

    def __exit__(self, *error) -> None:
        pass

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add a file with rows of pictures."""
        self._replace(
            self._folder / f"part-{self._next:05}.parquet",
            [{**row, "state": self._states.get(row["file"])} for row in rows],
        )
        self._next += 1

    def _replace(self, path: Path, rows: Sequence[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(name, _kind(name)) for name in (*self._columns, "state")])
        table = pa.Table.from_pylist([{name: text(value) for name, value in row.items()} for row in rows], schema)
        out = io.BytesIO()
        pq.write_table(table, out)
        files.replace(path, out.getvalue())


def paths(folder: Path) -> list[Path]:
    """Return the files of a folder in order."""
    return sorted(folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of all files in order."""
    for path in paths(folder):
        yield from _read(path)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows to a CSV in the same form as `RowFiles`."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(row[name]) for name in columns] for row in rows)
        files.publish(file, path)


def text(value: Any) -> Any:
    """Return a string with the undecodable bytes of a file name escaped, as Arrow needs; else the value."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from agegender_jax.errors import DataError

    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"a part of the predictions is damaged: {error}", str(path), "delete that file") from error


def _kind(name: str) -> Any:
    """Return the Arrow type of a column."""
    import pyarrow as pa

    if name in _INTEGERS:
        return pa.int64()
    if name in _NUMBERS or name.startswith("p_"):
        return pa.float64()
    kinds = {"box": pa.float64(), "landmarks": pa.list_(pa.float64()), "flags": pa.string(), "state": pa.int64()}
    return pa.list_(kinds[name]) if name in kinds else pa.string()
