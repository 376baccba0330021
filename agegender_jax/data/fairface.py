"""Labels out of FairFace's CSV: `file,age,gender,race,service_test`.

Kärkkäinen and Joo 2021. Ages come in nine groups. Race in seven: East and Southeast Asian count as Asian,
Latino_Hispanic and Middle Eastern as Others; the original word is kept in `race_text`.
"""

import csv
import io
import posixpath
from collections.abc import Iterator

from agegender_jax.labels import NUM_AGE_BUCKETS, RACES, Label

COLUMNS = {"file", "age", "gender", "race"}

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


def parse_csv(data: bytes, folder: str) -> Iterator[tuple[str, Label | str]]:
    """What a CSV says about the files that it lists, row by row.

    Args:
      data: the CSV's bytes, UTF-8.
      folder: where the CSV lies inside its source ("" for the top); its `file` column is relative to this.

    Yields:
      Path inside the source, and the Label or the reason why the row labels nothing. Nothing where the header
      is not FairFace's.

    Raises:
      csv.Error: a row cannot be read.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    header, _, body = text.partition("\n")
    columns = [column.strip() for column in header.split(",")]
    if not COLUMNS <= set(columns):
        return
    for row in csv.DictReader(io.StringIO(body, newline=""), columns, restval=""):
        file = row["file"].strip()
        if not file:
            continue
        path = posixpath.normpath(posixpath.join(folder, file))
        outside = path == ".." or path.startswith(("../", "/"))
        yield path, "its path in the CSV leads outside the source" if outside else _label(row)


def _label(row: dict) -> Label | str:
    age, gender, race = (row[name].strip() for name in ("age", "gender", "race"))
    if age not in AGES:
        return f"unknown age group {age[:40]!a} in the CSV"
    if gender.lower() not in _GENDERS:
        return f"unknown gender {gender[:40]!a} in the CSV"
    if race not in _RACES:
        return f"unknown race {race[:40]!a} in the CSV"
    first, last = AGES[age]
    return Label(age, -1, first, last, _GENDERS[gender.lower()], RACES.index(_RACES[race]), race)
