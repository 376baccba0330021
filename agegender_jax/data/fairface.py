"""Labels from FairFace's CSV: `file,age,gender,race,service_test`.

Kärkkäinen and Joo 2021. Ages come in nine groups, races in seven: East and Southeast Asian count as Asian,
Latino_Hispanic and Middle Eastern as Others; `race_text` has the original word.
"""

import csv
import io
import posixpath
import re
from collections.abc import Iterator

from agegender_jax import csv_cells
from agegender_jax.data import csv_text
from agegender_jax.labels import NUM_AGE_BUCKETS, RACES, Label

COLUMNS = ("file", "age", "gender", "race")
DAMAGE = "changed by a spreadsheet"  # in the reasons of rows that one has damaged

AGES = {"0-2": (0, 0), "3-9": (0, 0), "more than 70": (7, NUM_AGE_BUCKETS - 1)}
AGES |= {f"{10 * i}-{10 * i + 9}": (i, i) for i in range(1, 7)}
_GENDERS = {"male": 0, "female": 1}
_RACES = {
    "White": "White",
    "Black": "Black",
    "Indian": "Indian",
    "East Asian": "Asian",
    "Southeast Asian": "Asian",
    "Latino_Hispanic": "Others",
    "Middle Eastern": "Others",
}
_DASHES = re.compile(r"\s*[-‐‑‒–—−]\s*")  # hyphens and dashes that word processors put
_DATE = re.compile(
    r"\d+\W+[^\W\d_]{2,}.*"  # 00-Feb, 9. Mrz
    r"|[^\W\d_]{2,}\.?\W*\d+"  # Oct-19
    r"|\d{1,4}([-/.])\d{1,2}\1\d{1,4}(\s.*)?"  # 3/9/2024, 2019-10-01 00:00:00
    r"|\d{1,2}[/.]\d{1,2}\.?|\d{4}-\d{2}"  # 3/9, 2019-10
    r"|\d{1,2}月\d{1,2}日"
    r"|\d{5}([.,]\d+)?"  # days since 1900
    r"|\d([.,]\d+)?[eE][+-]?\d+"
)


class NotFairFace(Exception):
    """The CSV is not a FairFace CSV; the text gives the line and the reason."""


def parse_csv(data: bytes, folder: str) -> Iterator[tuple[str, Label | str]]:
    """Yield the path and the label of each row of a CSV.

    The header may be quoted or in capitals; commas, semicolons or tabs may separate the columns.

    Args:
      data: the CSV's bytes, UTF-8 or UTF-16 with a byte order mark.
      folder: where the CSV is inside its source ("" for the top); its `file` column is relative to this.

    Yields:
      The path inside the source, and the Label, or the reason (with the line) why the row has none.

    Raises:
      NotFairFace: the header lacks FairFace's columns.
      csv.Error: a later row cannot be read; the text gives the line.
    """
    text = csv_text.decode(data)
    columns, delimiter, missing = csv_text.header(text, COLUMNS)
    if missing:
        first = text.partition("\n")[0].strip()
        lacks = (
            f"has no column {', '.join(missing)}: {first[:60]!a}"
            if first
            else "is empty, and not file,age,gender,race,..."
        )
        raise NotFairFace(f"line 1 {lacks}")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        next(rows)
        for fields in rows:
            row = dict(zip(columns, fields, strict=False))
            file = csv_cells.original(row.get("file", "").strip())  # labels.csv of launch.align guards names
            if not file:
                continue
            path = posixpath.normpath(posixpath.join(folder, file))
            if path == ".." or path.startswith(("../", "/")):
                yield path, "its path in the CSV leads outside the source"
            else:
                label = _label(row)
                yield path, f"{label} in line {rows.line_num} of the CSV" if isinstance(label, str) else label
    except csv.Error as error:
        raise csv.Error(f"line {rows.line_num}: {error}") from error


def _label(row: dict[str, str]) -> Label | str:
    age, gender, race = (row.get(name, "").strip() for name in ("age", "gender", "race"))
    group = _DASHES.sub("-", age.strip("'\""))
    if group not in AGES:
        if _DATE.fullmatch(group):
            return f"age {age[:40]!a} is a date or number, {DAMAGE},"
        return f"unknown age group {age[:40]!a}"
    if gender.lower() not in _GENDERS:
        return f"unknown gender {gender[:40]!a}"
    if race not in _RACES:
        return f"unknown race {race[:40]!a}"
    first, last = AGES[group]
    return Label(group, -1, first, last, _GENDERS[gender.lower()], RACES.index(_RACES[race]), race)
