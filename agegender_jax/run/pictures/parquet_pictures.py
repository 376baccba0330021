"""Pictures in Parquet files: their bytes, or paths to them."""

import functools
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agegender_jax.data import listing
from agegender_jax.data.listing import MAX_BYTES, TOO_LARGE, Entry, State, Unreadable
from agegender_jax.errors import DataError
from agegender_jax.run.pictures.parquet_columns import Table
from agegender_jax.run.workdir.out_folder import SETTINGS

SUFFIX = ".parquet"
BYTES = ("bytes", "image", "image_bytes", "content")  # names of columns; `image` may be a struct with `bytes`
PATHS = ("path", "file", "file_name", "filename", "image_path")
_reading = threading.Lock()  # for `_column`


def in_folder(root: Path) -> list[Entry]:
    """Return an entry without `read` for each Parquet file in a folder and its subfolders, sorted.

    A folder with the suffix, as Spark and Dask write it, is a subfolder. The entry of a file has a reason if it must
    not be read, as for pictures: a link that leads outside, a FIFO. Hidden files are left out, and subfolders with
    results of `predict` or `align`.
    """
    real, found = os.path.realpath(root), []
    for folder, folders, names in os.walk(real):
        if folder != real and SETTINGS & set(names):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not listing.is_hidden(name)]
        for name in names:
            if name.lower().endswith(SUFFIX) and not listing.is_hidden(name):
                full = os.path.join(folder, name)
                path, reason = os.path.relpath(full, real), None
                try:
                    listing.check_regular(full, real)
                except Unreadable as error:
                    reason = str(error)
                found.append(Entry(path, reason=reason))
    return sorted(found, key=lambda entry: Path(entry.path))


def read_paths(path: Path) -> list[str] | None:
    """Return the column of paths of a file that has no column of bytes; None if it has one.

    Raises:
      ConfigError: pyarrow is not installed.
      DataError: it is not a Parquet file, is damaged, claims to unpack to too much, or none of its columns is known.
    """
    table = Table(path)
    if _bytes_column(table.schema) is not None:
        return None
    column = _paths_column(table.schema)
    if column is None:
        raise DataError(
            f"no column with pictures; there are {', '.join(table.schema.names)[:200]}",
            str(path),
            f"name a column of bytes {' or '.join(BYTES[:2])}, or one of paths {' or '.join(PATHS[:2])}",
        )
    return [str(name) for name in table.all_values(column) if name]


def entries(path: Path) -> list[Entry]:
    """Return an entry for each row of a file with a column of bytes, to be read in this order.

    Its path comes from a column of paths if these are unique, else it is the row number. Raises as `read_paths`.
    """
    table = Table(path)
    column, named = str(_bytes_column(table.schema)), _paths_column(table.schema)
    for group in range(len(table.rows)):
        table.check_size(column, group)
    groups = [(group, i) for group, rows in enumerate(table.rows) for i in range(rows)]
    names = [str(name) for name in table.all_values(named)] if named else []
    if not names or len(names) != len(groups) or Counter(names).most_common(1)[0][1] > 1:
        names = [str(i) for i in range(len(groups))]
    state = State.of(path.stat())
    read = functools.partial(_read_row, str(path.resolve()), state, column)
    return [
        Entry(name, functools.partial(read, group, i), state=state)
        for name, (group, i) in zip(names, groups, strict=True)
    ]


def _paths_column(schema: Any) -> str | None:
    return next((name for name in PATHS if schema.get_field_index(name) >= 0), None)


def _bytes_column(schema: Any) -> str | None:
    """Return the name of the column with the bytes of the pictures, such as image or image.bytes."""
    import pyarrow as pa

    for name in BYTES:
        if schema.get_field_index(name) >= 0:  # the only one of this name
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                name, kind = f"{name}.bytes", kind.field("bytes").type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return name
    return None


def _read_row(path: str, state: State, column: str, group: int, index: int) -> bytes:
    try:
        with _reading:
            value = _column(path, state, column).read(group, index)
    except DataError as error:
        raise Unreadable(f"cannot be read: {error.what}") from error
    value = value.get("bytes") if isinstance(value, dict) else value
    if value is None:
        raise Unreadable("no bytes in the row")
    if len(value) > MAX_BYTES:
        raise Unreadable(TOO_LARGE)
    return value


class _Column:
    """A column of a file, which is read on from the last row; an earlier row takes its row group from the beginning."""

    def __init__(self, path: Path, column: str):
        self._path, self._name, self._table = path, column, Table(path)
        self._group, self._next = -1, 0
        self._values: Iterator[Any] = iter(())
        self._error: DataError | None = None  # for all that follows in the row group

    def read(self, group: int, index: int) -> Any:
        """Return the value of a row; raise DataError if it is damaged or missing."""
        if group != self._group or index < self._next:
            self._group, self._next, self._error = group, 0, None
            self._values = self._table.values(self._name, group)
        if self._error:
            raise self._error
        try:
            for value in self._values:
                self._next += 1
                if self._next > index:
                    return value
            raise DataError("damaged: a row is missing", str(self._path), "copy or download it again")
        except DataError as error:
            self._error = error
            raise


@functools.lru_cache(maxsize=1)
def _column(path: str, state: State, column: str) -> _Column:
    """Return the column that rows of a file share; `state` is part of the key, so that a new file is read anew."""
    return _Column(Path(path), column)
