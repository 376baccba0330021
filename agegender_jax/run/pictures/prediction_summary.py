"""The summary of a call to predict: printed predictions for a single picture, counts, and summary.json."""

import collections
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.errors import DataError
from agegender_jax.prediction.face import NO_FACE, OK, UNREADABLE, UNSURE
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.pictures import prediction_rows
from agegender_jax.run.workdir import write_json

SUMMARY = "summary.json"
SHOWN = 20  # faces that are printed for a single picture


def describe(row: dict[str, Any], over: Sequence[int]) -> str:
    """Return the prediction in a face's row as one line."""
    text = f"age {row['age_years']:.0f} ({row['age_low']}-{row['age_high']} at {row['coverage']:.0%})"
    confidence = max(row["p_female"], 1 - row["p_female"])
    parts = [text, f"{row['gender']} {confidence:.0%}", "unsure" if row["status"] == UNSURE else "", *row["flags"]]
    parts += [f"over {years}: {row[f'over_{years}']} (p {row[f'p_over_{years}']:.2f})" for years in over]
    return ", ".join(part for part in parts if part)


def show(folder: Path, name: str, over: Sequence[int], progress: Progress) -> None:
    """Print the rows of a picture, which an earlier call may have written."""
    named = prediction_rows.names_in(folder, [name])
    rows = (row for row in prediction_rows.read(folder) if row["file"] in named)
    for row in itertools.islice(rows, SHOWN):
        if row["gender"] is None:
            progress.note(f"{files.printable(name)}: {row['reason'] or 'no face'}")
        else:
            x, y, width, height = row["box"]
            text = f"at {x:.0f},{y:.0f} {width:.0f}x{height:.0f}"
            progress.note(f"{files.printable(name)}: {describe(row, over)}, {text}")


def write(folder: Path, before: int, others: int, new: int, faces: int, seconds: float) -> dict[str, Any]:
    """Write summary.json, with the counts of the rows in the folder, and return it.

    Args:
      before: number of pictures with predictions from earlier calls.
      others: number of those that this call does not name.
      new, faces: numbers of pictures and faces predicted by this call.
    """
    counts = collections.Counter(row["status"] for row in prediction_rows.read(folder))
    statuses = {status: counts[status] for status in (OK, UNSURE, NO_FACE, UNREADABLE)}
    summary = {
        "schema": 1,
        "pictures": before + new,
        "answered_before": before,
        "not_named": others,
        "faces": counts[OK] + counts[UNSURE],
        "statuses": statuses,
        "seconds": round(seconds, 2),
        "pictures_per_second": round(new / max(seconds, 1e-9), 2),
        "faces_per_second": round(faces / max(seconds, 1e-9), 2),
    }
    write_json(folder / SUMMARY, summary)
    return summary


def note(summary: dict[str, Any], folder: Path, progress: Progress) -> None:
    """Print the counts of a summary."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items() if count)
    earlier = f" ({summary['answered_before']} by an earlier call)" if summary["answered_before"] else ""
    pictures, faces = _count(summary["pictures"], "picture"), _count(summary["faces"], "face")
    progress.note(
        f"{pictures}{earlier}, {faces}: {statuses or 'nothing'}; "
        f"{summary['pictures_per_second']:.1f} pictures per second, {summary['faces_per_second']:.1f} faces per second"
    )
    if others := summary["not_named"]:
        progress.note(
            f"included: {_count(others, 'picture')} of earlier calls that this one does not name; "
            "another --out keeps calls apart"
        )
    progress.note(f"predictions: {folder}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def check_all_read(folder: Path, names: set[str]) -> None:
    """Raise DataError, which names the first, if a picture of this call could not be read."""
    named = prediction_rows.names_in(folder, names)
    bad = [row for row in prediction_rows.read(folder) if row["status"] == UNREADABLE and row["file"] in named]
    if bad:
        where = f"{files.printable(bad[0]['file'])}: {bad[0]['reason']}"
        raise DataError(f"{len(bad)} of {len(names)} files could not be read", where, f"the rows in {folder} say why")
