"""The text and the header of a CSV, as spreadsheets in different countries save it."""

import codecs
import csv
import io
from collections.abc import Sequence

DELIMITERS = ",;\t"


def decode(data: bytes) -> str:
    """Return the text of a CSV in UTF-8, or in UTF-16 with a byte order mark, the "Unicode text" of spreadsheets."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def header(text: str, wanted: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return the names of the columns in small letters, what separates them, and those of `wanted` that are missing.

    Names may be quoted or in capitals; commas, semicolons or tabs may separate them.
    """
    found: list[tuple[list[str], str]] = []
    for delimiter in DELIMITERS:
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            continue
        found.append(([column.strip().strip("\"'").strip().lower() for column in row], delimiter))
        if set(wanted) <= set(found[-1][0]):
            return *found[-1], []
    columns, delimiter = max(found, key=lambda of: len(of[0]), default=([], ","))
    return columns, delimiter, [name for name in wanted if name not in columns]
