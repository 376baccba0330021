"""The CSVs of `data.exclude` and `data.splits`, which list files of a source."""

import csv
import io
from collections.abc import Collection, Sequence

from agegender_jax import csv_cells
from agegender_jax.data import csv_text
from agegender_jax.errors import DataError
from agegender_jax.files import expand


def read(path: str, field: str, columns: Sequence[str], fix: str) -> list[tuple[int, list[str]]]:
    """Return the line number and the cells of `columns` for each row of a CSV; other columns are ignored.

    Its encoding and its separators may be those of `csv_text`.

    Args:
      field: the setting that names the CSV, for errors; fix: their advice.
      columns: the first is `file`, in whose cells the apostrophe of `csv_cells.guard` is removed.

    Raises:
      DataError: the CSV cannot be read, or has no such column or no cell for it in a row.
      ConfigError: the path is a URL or in an unknown home folder.
    """
    try:
        text = csv_text.decode(expand(path, field).read_bytes())
        names, delimiter, missing = csv_text.header(text, columns)
        if missing:
            raise csv.Error(f"it has no column {' and no column '.join(missing)}")
        reader = csv.DictReader(io.StringIO(text, newline=""), names, delimiter=delimiter)
        next(reader)  # the header
        rows = []
        for row in reader:
            if None in (cells := [row[column] for column in columns]):
                raise csv.Error(f"line {reader.line_num} is too short")
            rows.append((reader.line_num, [csv_cells.original(cells[0]), *cells[1:]]))
        return rows
    except (OSError, csv.Error) as error:
        raise DataError(f"{field} cannot be read: {error}", path, fix) from None


def check_known(
    listed: Collection[str], files: Sequence[str], bad: Sequence[tuple[str, str]], path: str, field: str
) -> None:
    """Raise DataError if a CSV lists a file that is neither a usable nor an unusable file of the source."""
    if unknown := sorted(set(listed) - set(files) - {file for file, _ in bad}):
        raise DataError(
            f"{len(unknown)} of the {len(listed)} files in {field} are not in the source, for example {unknown[0]}",
            path,
            "list files as in splits.csv of a run of the same data.source and data.train_on, and no others",
        )
