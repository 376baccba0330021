"""The rows of predictions: one per face, or one with the reason why a picture has none."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction.face import Face, Picture
from agegender_jax.prediction.faces_from_probs import DECIMALS, FacesFromProbs
from agegender_jax.run.pictures import jsonl_csv_rows, parquet_rows

SCHEMA = 1
STEM = "predictions"  # of the files' names


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


def restated(row: dict[str, Any], faces_from_probs: FacesFromProbs) -> dict[str, Any]:
    """Return a row of a call with other options `coverage`, `over` and `max_error`, with its fields for these ones.

    They follow from the age's probabilities in the row.
    """
    new = {name: row.get(name) for name in columns(faces_from_probs.ages)}
    if row["gender"] is not None:
        age = np.array([[row[f"p_age_{i}"] for i in range(NUM_AGE_BUCKETS)]])
        ((interval, over),) = faces_from_probs.intervals_and_decisions(age)
        new |= _interval(interval, faces_from_probs.coverage) | _decisions(over)
    return new | {"state": row["state"]}


def states(folder: Path) -> Iterator[tuple[str, list[int] | None]]:
    """Yield the name and the state of the picture of each row in a folder of predictions, from either engine."""
    if (folder / STEM).is_dir():
        for row in parquet_rows.read(folder / STEM):
            yield row["file"], row["state"]
    else:
        yield from jsonl_csv_rows.states(folder / f"{STEM}.jsonl")


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows in a folder of predictions, from either engine."""
    if (folder / STEM).is_dir():
        yield from parquet_rows.read(folder / STEM)
    else:
        yield from jsonl_csv_rows.read(folder / f"{STEM}.jsonl")


def names_in(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the names of pictures as the rows in a folder of predictions have them, see `parquet_rows.text`."""
    return {parquet_rows.text(name) for name in names} if (folder / STEM).is_dir() else set(names)


def _fields(face: Face, over: Sequence[int]) -> dict[str, Any]:
    return {
        "box": face.box,
        "score": face.score,
        "landmarks": face.landmarks,
        "age_years": face.age,
        **_interval(face.age_interval, face.coverage),
        "age_bucket": face.age_bucket,
        **{f"p_age_{i}": _short(p) for i, p in enumerate(face.age_probs)},
        "gender": face.gender,
        "p_female": _short(face.p_female),
        **_decisions({years: face.over[years] for years in over}),
        "flags": face.flags,
    }


def _interval(bounds: tuple[int, int], coverage: float) -> dict[str, Any]:
    return {"age_low": bounds[0], "age_high": bounds[1], "coverage": coverage}


def _decisions(over: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of --over, from those of `Face.over`."""
    fields: dict[str, Any] = {}
    for years, decided in over.items():
        fields |= {f"p_over_{years}": _short(decided["p"]), f"over_{years}": decided["decision"]}
    return fields


def _short(p: float) -> float:
    return round(p, DECIMALS)
