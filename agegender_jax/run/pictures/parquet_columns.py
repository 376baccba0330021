"""Columns of Parquet files, read one value at a time.

The files are not trusted. Few bytes may unpack to many: a file that claims to have too much is refused, and a false
claim costs no more than the memory for a page, which has at most 2 GiB.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agegender_jax.errors import ConfigError, DataError

UNPACKED = 128 * 2**20  # bytes to which a column of a row group may unpack,
RATIO = 4  # or this times the size of the file if that is more: pictures are already compressed
ROWS = 2**20  # that a file may have, or one for each of its bytes
_BUFFER = 2**20  # bytes that are read from disk together


class Table:
    """A Parquet file.

    Args:
      path: path of a regular file.

    Attributes:
      schema: its pyarrow.Schema.
      rows: the number of rows of each row group.

    Raises:
      ConfigError: pyarrow is not installed.
      DataError: it is not a Parquet file, or claims to have too many rows.
    """

    def __init__(self, path: Path):
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ConfigError(
                "Parquet files need pyarrow, which is not installed", str(path), "pip install 'agegender-jax[ray]'"
            ) from error
        try:
            size = path.stat().st_size
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"no Parquet file: {_line(error)}", str(path), "name another") from error
        self._path, self._limit = path, max(UNPACKED, RATIO * size)
        self.schema = self._file.schema_arrow
        self.rows = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        if sum(self.rows) > (most := max(ROWS, size)):
            raise DataError(f"the file claims to have more than {most} rows", str(path), "split it into several files")

    def check_size(self, column: str, group: int) -> None:
        """Raise DataError if a column of a row group claims to unpack to too many bytes."""
        metadata = self._file.metadata.row_group(group)
        chunks = [metadata.column(i) for i in range(metadata.num_columns)]
        chosen = [chunk for chunk in chunks if f"{chunk.path_in_schema}.".startswith(f"{column}.")]
        if sum(chunk.total_uncompressed_size for chunk in chosen) > self._limit:
            raise self._too_large(column, group)

    def values(self, column: str, group: int) -> Iterator[Any]:
        """Yield the values of a column in a row group; raise DataError if they are damaged or too large."""
        import pyarrow as pa

        self.check_size(column, group)
        options = {"row_groups": [group], "columns": [column], "use_threads": False}
        rows = self._file.iter_batches(batch_size=1, **options)  # a dictionary can make each as large as all
        more = True
        while more:
            try:
                row = next(rows, None)
                parts = [] if row is None else row.column(0).to_pylist()
            except (OSError, ValueError, pa.ArrowException) as error:
                raise DataError(f"damaged: {_line(error)}", str(self._path), "copy or download it again") from error
            yield from parts  # outside of `try`, as pyarrow may be gone when the program ends here
            more = row is not None

    def all_values(self, column: str) -> list[Any]:
        """Return all values of a column of texts; raise DataError if they are damaged or too large."""
        found: list[Any] = []
        for group in range(len(self.rows)):
            total = 0
            for value in self.values(column, group):
                found.append(value)
                total += len(str(value))
                if total > self._limit:
                    raise self._too_large(column, group)
        return found

    def _too_large(self, column: str, group: int) -> DataError:
        return DataError(
            f"column {column} of row group {group} unpacks to more than {self._limit >> 20} MiB",
            str(self._path),
            "if that is right, write the file with smaller row groups, such as row_group_size=100 of pyarrow or pandas",
        )


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:150]
