"""The align command: make aligned chips from a labelled source, as a source for training."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax import files
from agegender_jax.data import resolve, sources
from agegender_jax.data.decoding import DecodeError, decode
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.errors import ConfigError
from agegender_jax.labels import GENDERS, Label
from agegender_jax.photos import alignment, detector
from agegender_jax.prediction.face import NO_FACE, UNREADABLE
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.pictures.align_pictures import ALIGNED, SETTINGS, SUMMARY, png
from agegender_jax.run.workdir import check_unused, hold, keep_settings, make_out, write_csv, write_json

ROWS, LABELS = "faces.jsonl", "labels.csv"
PATHS = "paths"  # of the source, in align.json
_REMOVED = "removed"  # status of a picture that the source no longer has
_NEAR = 0.25  # of the largest box's area: a smaller face is in the background


def align(source: str | None, *, out: str | None, size: int, score: float, cache_dir: str | None = None) -> dict:
    """Write a chip of the face in the middle of each picture of a source, and return summary.json.

    `out` is then a data source with the same labels: files keep UTKFace names, and other labels are in labels.csv.
    faces.jsonl has one row per picture. Repeat the call to continue after an interruption; pictures whose content or
    label has changed are aligned again, and the chips of those that the source no longer has are removed.

    Args:
      source: as data.source.
      out: folder; aligned/<name of the source> if None.
      size: side of the chips in pixels.
      score: minimum score of a face.

    Raises:
      ConfigError, DataError: an argument is wrong, the source cannot be read, or `out` belongs to another call or has
        files that are not of this command.
    """
    if not source:
        raise ConfigError(
            "neither pictures nor --source are given", "command line", "agegender align PHOTO… or --source=fairface.tar"
        )
    detector.model_bytes()
    folder = files.resolve(out or f"aligned/{sources.source_name(source)}", "--out")
    resolve.check_outside(source, folder, "--out")
    make_out(folder)
    with hold(folder):
        return _align_all(source, folder, size, score, cache_dir)


def _align_all(source: str, folder: Path, size: int, score: float, cache_dir: str | None) -> dict:
    paths = [str(files.resolve(path, "--source")) for path in resolve.resolve_existing(source)]
    check_unused(folder, SETTINGS, (ROWS, LABELS, SUMMARY, "**/*.png"))
    _check_same_source(folder, paths)
    settings = {"schema": 1, "source": sources.source_name(source), "size": size, "score": score, PATHS: paths}
    if keep_settings(folder / SETTINGS, settings, "chips", free=(PATHS,)):
        write_json(folder / SETTINGS, settings)
    earlier = _rows(folder)
    detector.use_one_thread()
    with stop_flag() as stop, Progress(stop=stop) as progress:

        def warn(left_out: sources.LeftOut) -> None:
            if warning := sources.left_out_warning(left_out):
                progress.warn(warning)

        warn(sources.left_out_of_folders(source))
        items = sources.read(source, cache_dir, progress.prepare, warn)
        removed = set(earlier)
        named = _with_names(_changed(items, earlier, removed), earlier)
        with open(folder / ROWS, "ab") as log:
            for row in parallel_map(lambda pair: _align(*pair, folder, size, score), named):
                log.write(files.to_json(row).encode() + b"\n")
                log.flush()  # so that few chips lack a row after an interruption
            for file in sorted(removed):
                if chip := earlier[file].get("chip"):
                    _remove_chip(folder, chip)
                log.write(files.to_json({"file": file, "status": _REMOVED}).encode() + b"\n")
        summary = _finish(folder, had_labels=any(_has_group(row) for row in earlier.values()))
        progress.note(
            f"{summary[ALIGNED]} chips, {summary[NO_FACE]} pictures without a face, "
            f"{summary[UNREADABLE]} unusable: {folder}"
        )
    return summary


def _check_same_source(folder: Path, paths: list[str]) -> None:
    """Raise ConfigError if `folder` has chips of other files, even of a source with the same name."""
    try:
        earlier = json.loads((folder / SETTINGS).read_bytes()).get(PATHS, paths)  # earlier versions wrote none
    except (OSError, *files.MALFORMED):
        return  # an error of `keep_settings`, if any
    if earlier != paths:
        raise ConfigError(
            f"--out holds chips of {', '.join(map(str, earlier))}, not of {', '.join(paths)}",
            str(folder),
            f"name another folder with --out; if the source was moved, correct `{PATHS}` in {SETTINGS}",
        )


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last row of each picture in faces.jsonl, by its file, after removing an incomplete last line.

    Damaged lines, rows of removed pictures, and those that name a chip outside of the folder are left out.
    """
    path = folder / ROWS
    if not path.exists():
        return {}
    content = path.read_bytes()
    if (whole := content.rfind(b"\n") + 1) < len(content):
        with open(path, "r+b") as log:
            log.truncate(whole)
    rows = {}
    for line in content[:whole].splitlines():
        try:
            row = json.loads(line)
            if row["status"] != _REMOVED and _is_inside(row.get("chip", "")):
                rows[row["file"]] = row
            else:
                rows.pop(row["file"], None)
        except files.MALFORMED:
            continue
    return rows


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _changed(
    items: Iterable[sources.Item], earlier: Mapping[str, dict[str, Any]], removed: set[str]
) -> Iterator[sources.Item]:
    """Yield the items that are not aligned yet, the unreadable last; discard the files of all items from `removed`.

    An archive's member that a later one of the same name replaces is left out.
    """
    readable: set[str] = set()
    unreadable: list[sources.Item] = []
    for item in items:
        removed.discard(item.file)
        if item.data is None:
            unreadable.append(item)
            continue
        readable.add(item.file)
        if not _is_done(item, earlier.get(item.file)):
            yield item
    yield from (i for i in unreadable if i.file not in readable and not _is_done(i, earlier.get(i.file)))


def _is_done(item: sources.Item, row: dict[str, Any] | None) -> bool:
    """Return whether an earlier row is still that of the item."""
    if row is None:
        return False
    label = None if item.label is None else list(dataclasses.astuple(item.label))
    return row.get("sha256", _sha256(item)) == _sha256(item) and row.get("label", label) == label


def _sha256(item: sources.Item) -> str | None:
    return None if item.data is None else hashlib.sha256(item.data).hexdigest()


def _with_names(
    items: Iterable[sources.Item], earlier: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[sources.Item, str]]:
    """Yield each item with the path of its chip: with the suffix .png, or with .png appended if that is taken.

    Args:
      earlier: rows by file; a changed picture keeps its path.
    """
    chips = {file: row["chip"] for file, row in earlier.items() if row.get("chip")}
    taken = set(chips.values())
    for item in items:
        name = _png_name(item.file)
        if item.file in chips:
            name = chips[item.file]
        elif name in taken:
            name = f"{item.file}.png"
        taken.add(name)
        yield item, name


def _align(item: sources.Item, name: str, folder: Path, size: int, score: float) -> dict[str, Any]:
    """Write the chip of an item as `name`, and return its row; without a face, remove an earlier chip."""
    row = {"file": item.file, "sha256": _sha256(item)}
    try:
        if item.data is None or item.label is None:
            raise DecodeError(item.reason)
        image = decode(item.data)
    except DecodeError as error:
        _remove_chip(folder, name)
        return {**row, "status": UNREADABLE, "reason": str(error)}
    face = middle_face(image, detector.detect(image, score))
    if face is None:
        _remove_chip(folder, name)
        return {**row, "status": NO_FACE}
    aligned = alignment.align(image, face)
    _write_png(folder / name, alignment.chip(image, aligned, size))
    return {
        **row,
        "status": ALIGNED,
        "chip": name,
        "label": dataclasses.astuple(item.label),
        "score": round(face.score, 4),
        "box": np.round(face.box, 2),
        "landmarks": np.round(aligned.landmarks, 2),
        "side": round(aligned.side, 2),
        "roll": round(aligned.roll, 2),
    }


def middle_face(image: np.ndarray, faces: list[detector.Detection]) -> detector.Detection | None:
    """Return the face nearest to the centre of the picture, ignoring small ones; None if there is no face."""
    middle = np.array(image.shape[1::-1]) / 2
    largest = max((face.area for face in faces), default=0.0)
    large = [face for face in faces if face.area >= _NEAR * largest]
    return min(large, key=lambda face: float(np.hypot(*(face.centre - middle))), default=None)


def _png_name(file: str) -> str:
    """Return the path of the chip, `file` with the suffix .png."""
    folder, _, name = file.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}/{stem if dot else name}.png".lstrip("/")


def _remove_chip(folder: Path, name: str) -> None:
    """Remove a chip, unless its path leads outside of the folder, as that of an unusable picture may."""
    if _is_inside(name):
        (folder / name).unlink(missing_ok=True)


def _write_png(path: Path, chip: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(chip))


def _has_group(row: Mapping[str, Any]) -> bool:
    """Return whether the label of a row is a group of ages, which no file name has."""
    return row["status"] == ALIGNED and Label(*row["label"]).age_years < 0


def _finish(folder: Path, had_labels: bool) -> dict:
    """Write labels.csv, if labels are not in names, and summary.json; remove a labels.csv of pictures that are gone."""
    rows = list(_rows(folder).values())
    labelled = [(row["chip"], Label(*row["label"])) for row in rows if row["status"] == ALIGNED]
    table = [
        (file, label.age_text, GENDERS[label.gender].capitalize(), label.race_text)
        for file, label in labelled
        if label.age_years < 0
    ]
    if table:
        write_csv(folder / LABELS, ("file", "age", "gender", "race"), table)
    elif had_labels:
        (folder / LABELS).unlink(missing_ok=True)
    counts = {status: sum(row["status"] == status for row in rows) for status in (ALIGNED, NO_FACE, UNREADABLE)}
    summary = {"schema": 1, "pictures": len(rows), **counts}
    write_json(folder / SUMMARY, summary)
    return summary
