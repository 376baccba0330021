"""The labels in the FairFace CSVs of a source, by path, and the files that a CSV lists.

If a row of a CSV cannot be used, the label is replaced by a string, the reason.
"""

import csv
import posixpath
from collections.abc import Callable
from pathlib import Path

from agegender_jax.data import fairface, listing
from agegender_jax.data.listing import Entry
from agegender_jax.errors import DataError
from agegender_jax.labels import Label

NOT_THERE = "listed in the CSV, but there is no such image"


def read_csv(path: Path) -> tuple[list[Entry], dict[str, Label | str]]:
    """Return the files that a CSV lists, and their labels.

    Raises:
      DataError: the CSV has no labels, or a row that cannot be read.
    """
    real = path.resolve()
    entry, problem = listing.file_entry(real.parent, real.name), ""
    labels: dict[str, Label | str] = {}
    try:
        _add_labels(labels, entry, path, lambda file: (path.parent / file).exists())
    except fairface.NotFairFace as error:
        problem = f": {error}"
    if not labels:
        raise DataError(
            f"no FairFace rows in the CSV{problem}", str(path), "its first line is file,age,gender,race,..."
        )
    return listing.file_entries(path.parent, [file for file in labels if listing.is_image(file)]), labels


def labels_of_csvs(root: Path, entries: list[Entry]) -> tuple[dict[str, Label | str], str]:
    """Return the labels in the CSVs of a source, and why the first CSV without labels has none; "" if all have some.

    Raises:
      DataError: a row cannot be read.
    """
    labels: dict[str, Label | str] = {}
    problems = []
    present = {entry.path for entry in entries}
    for entry in entries:
        if listing.is_csv(entry.path):
            try:
                _add_labels(labels, entry, root / entry.path, present.__contains__, entry.path.rpartition("/")[0])
            except fairface.NotFairFace as error:
                problems.append(f"{entry.path}: {error}")
    return labels, problems[0] if problems else ""


def _with_slashes(path: str, exists: Callable[[str], bool]) -> str:
    """Return a path as Windows writes it with slashes, if that is an image of the source."""
    changed = posixpath.normpath(path.replace("\\", "/"))
    return changed if changed != path and exists(changed) else path


def _add_labels(
    labels: dict[str, Label | str], entry: Entry, where: Path, exists: Callable[[str], bool], folder: str = ""
) -> None:
    """Add a CSV's labels to `labels`.

    Args:
      exists: returns whether a path is in the source.
      folder: where the CSV is inside the source.

    Raises:
      DataError: a row cannot be read.
      NotFairFace: it has no labels.
    """
    if entry.read is None:
        raise fairface.NotFairFace(entry.reason)
    try:
        for path, label in fairface.parse_csv(entry.read(), folder):
            path = path if exists(path) else _with_slashes(path, exists)
            if labels.setdefault(path, label) != label:
                labels[path] = "listed twice in a CSV, with different labels"
    except csv.Error as error:
        raise DataError(
            f"the CSV cannot be read: {error}", str(where), "repair that line, or use the original file"
        ) from error


def missing_images(labels: dict[str, Label | str], present: set[str]) -> list[Entry]:
    """Return an unusable entry for each path that has a label or reason but is not in `present`."""
    return [
        Entry(path, reason=label if isinstance(label, str) else NOT_THERE)
        for path, label in labels.items()
        if path not in present
    ]
