"""predictions.jsonl and predictions.csv: rows of faces as they are ready, which a later call continues."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction.face import Face, Picture

SCHEMA = 1
JSONL, CSV = "predictions.jsonl", "predictions.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes cells that begin like this


def columns(over: Sequence[int]) -> list[str]:
    """Return the names of a row's fields."""
    return [
        *("file", "status", "reason", "face", "faces", "box", "score", "landmarks", "age_years", "age_low", "age_high"),
        *("coverage", "age_bucket", *(f"p_age_{i}" for i in range(NUM_AGE_BUCKETS)), "gender", "p_female"),
        *(name for years in over for name in (f"p_over_{years}", f"over_{years}")),
        *("flags", "weights", "schema"),
    ]


def rows(picture: Picture, weights: str, over: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each face of a picture, or one that says why there is none."""
    last = {"weights": weights, "schema": SCHEMA}
    if not picture.faces:
        empty = dict.fromkeys(columns(over))
        return [empty | {"file": picture.name, "status": picture.status, "reason": picture.reason, "faces": 0} | last]
    return [
        {"file": picture.name, "status": face.status, "reason": "", "face": i, "faces": len(picture.faces)}
        | _fields(face, over)
        | last
        for i, face in enumerate(picture.faces)
    ]


def _fields(face: Face, over: Sequence[int]) -> dict[str, Any]:
    decisions: dict[str, Any] = {}
    for years in over:
        decisions |= {f"p_over_{years}": _short(face.over[years]["p"]), f"over_{years}": face.over[years]["decision"]}
    return {
        "box": face.box,
        "score": face.score,
        "landmarks": face.landmarks,
        "age_years": face.age,
        "age_low": face.age_interval[0],
        "age_high": face.age_interval[1],
        "coverage": face.coverage,
        "age_bucket": face.age_bucket,
        **{f"p_age_{i}": _short(p) for i, p in enumerate(face.age_probs)},
        "gender": face.gender,
        "p_female": _short(face.p_female),
        **decisions,
        "flags": face.flags,
    }


class RowFiles:
    """Both files in a folder, open for further rows.

    Args:
      folder: of the files.
      over: see `columns`.
      states: of the pictures of this call by name, see `PictureFile.state`. Earlier rows of a picture that has changed
        are removed.

    Attributes:
      done: the names of the pictures that have their rows.
    """

    def __init__(self, folder: Path, over: Sequence[int], states: Mapping[str, list[int] | None]):
        self.path, self._columns, self._states = folder / JSONL, columns(over), states
        self.done = _repair(self.path, states)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(self._columns)
        files.replace(folder / CSV, text.getvalue())
        self._csv = open(folder / CSV, "a", encoding="utf-8", newline="")
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
        self._jsonl.write("".join(files.to_json(row) + "\n" for row in stated).encode())
        self._jsonl.flush()
        for row in rows:
            self._write_csv(row)
        self._csv.flush()

    def _write_csv(self, row: dict[str, Any]) -> None:
        self._writer.writerow([cell(row[name]) for name in self._columns])


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of predictions.jsonl."""
    if path.exists():
        with open(path, "rb") as lines:
            yield from map(json.loads, lines)


def cell(value: Any) -> str:
    """Return the text of a CSV cell: control characters escaped, an apostrophe before what a spreadsheet computes."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(cell(item) for item in value)
    if not isinstance(value, str):
        return str(value)
    text = files.printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _repair(path: Path, states: Mapping[str, list[int] | None]) -> set[str]:
    """Remove the rows of an unfinished last picture and of changed ones, and return the names of the other pictures."""
    done: set[str] = set()
    if not path.exists():
        return done
    temporary = path.with_suffix(".tmp")
    with open(path, "rb") as earlier, open(temporary, "wb") as file:
        lines: list[bytes] = []  # of the picture so far
        for line in earlier:
            try:
                row = json.loads(line) if line.endswith(b"\n") else {}
                name, count, state = row["file"], max(1, row["faces"]), row["state"]
            except (ValueError, TypeError, KeyError):
                break
            lines.append(line)
            if len(lines) == count:
                if states.get(name, state) == state:
                    done.add(name)
                    file.writelines(lines)
                lines = []
    temporary.replace(path)
    return done


def _short(p: float) -> float:
    return round(p, 6)
