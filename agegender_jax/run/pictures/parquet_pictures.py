"""Pictures in Parquet files: their bytes, or paths to them."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

from agegender_jax.data.listing import MAX_BYTES, TOO_LARGE, Entry, State, Unreadable
from agegender_jax.errors import ConfigError, DataError

SUFFIX = ".parquet"
BYTES = ("bytes", "image", "image_bytes", "content")  # names of columns; `image` may be a struct with `bytes`
PATHS = ("path", "file", "file_name", "filename", "image_path")


def read_paths(path: Path) -> list[str] | None:
    """Return the column of paths of a file that has no column of bytes; None if it has one.

    Raises:
      ConfigError: pyarrow is not installed.
      DataError: it is not a Parquet file, or none of its columns is known.
    """
    schema = _open(path).schema_arrow
    if _bytes_column(schema) is not None:
        return None
    column = next((name for name in PATHS if name in schema.names), None)
    if column is None:
        raise DataError(
            f"no column with pictures; there are {', '.join(schema.names)[:200]}",
            str(path),
            f"name a column of bytes {' or '.join(BYTES[:2])}, or one of paths {' or '.join(PATHS[:2])}",
        )
    return [str(name) for name in _open(path).read(columns=[column])[column].to_pylist() if name]


def entries(path: Path) -> list[Entry]:
    """Return an entry for each row of a file with a column of bytes.

    Its path comes from a column of paths if these are unique, else it is the row number. Raises as `read_paths`.
    """
    file = _open(path)
    column = _bytes_column(file.schema_arrow)
    groups = [
        (group, i) for group in range(file.num_row_groups) for i in range(file.metadata.row_group(group).num_rows)
    ]
    named = next((name for name in PATHS if name in file.schema_arrow.names), None)
    names = [str(name) for name in file.read(columns=[named])[named].to_pylist()] if named else []
    if not names or Counter(names).most_common(1)[0][1] > 1:
        names = [str(i) for i in range(len(groups))]
    state = State.of(path.stat())
    read = functools.partial(_read_row, str(path.resolve()), column)
    return [
        Entry(name, functools.partial(read, group, i), state=state)
        for name, (group, i) in zip(names, groups, strict=True)
    ]


def _open(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(
            "Parquet files need pyarrow, which is not installed", str(path), "pip install 'agegender-jax[ray]'"
        ) from error
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"no Parquet file: {str(error).splitlines()[0][:150]}", str(path), "name another") from error


def _bytes_column(schema: Any) -> str | None:
    """Return the name of the column with the bytes of the pictures."""
    import pyarrow as pa

    for name in BYTES:
        if name in schema.names:
            kind = schema.field(name).type
            inner = (
                kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
            )
            if pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
                return name
    return None


def _read_row(path: str, column: str, group: int, index: int) -> bytes:
    import pyarrow as pa

    try:
        value = _group(path, column, group)[index].as_py()
    except (OSError, pa.ArrowException, DataError) as error:
        raise Unreadable(f"cannot be read: {str(error).splitlines()[0][:150]}") from error
    value = value.get("bytes") if isinstance(value, dict) else value
    if value is None:
        raise Unreadable("no bytes in the row")
    if len(value) > MAX_BYTES:
        raise Unreadable(TOO_LARGE)
    return value


@functools.lru_cache(maxsize=2)
def _group(path: str, column: str, group: int) -> Any:
    """Return a column of a row group; neighbouring rows share it."""
    return _open(Path(path)).read_row_group(group, columns=[column])[column]
