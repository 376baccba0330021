"""The align command: make aligned chips from a labelled source, as a source for training."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
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
from agegender_jax.run.workdir import hold, keep_settings, make_out, write_csv, write_json

ROWS, LABELS = "faces.jsonl", "labels.csv"
_NEAR = 0.25  # of the largest box's area: a smaller face is in the background


def align(source: str | None, *, out: str | None, size: int, score: float, cache_dir: str | None = None) -> dict:
    """Write a chip of the face in the middle of each picture of a source, and return summary.json.

    `out` is then a data source with the same labels: files keep UTKFace names, and other labels are in labels.csv.
    faces.jsonl has one row per picture. Repeat the call to continue after an interruption.

    Args:
      source: as data.source.
      out: folder; aligned/<name of the source> if None.
      size: side of the chips in pixels.
      score: minimum score of a face.

    Raises:
      ConfigError, DataError: an argument is wrong, the source cannot be read, or `out` belongs to another call.
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
    keep_settings(
        folder / SETTINGS, {"schema": 1, "source": sources.source_name(source), "size": size, "score": score}, "chips"
    )
    chips = {row["file"]: row.get("chip") for row in _rows(folder)}
    detector.use_one_thread()
    with stop_flag() as stop, Progress(stop=stop) as progress:

        def warn(left_out: sources.LeftOut) -> None:
            if warning := sources.left_out_warning(left_out):
                progress.warn(warning)

        warn(sources.left_out_of_folders(source))
        items = (item for item in sources.read(source, cache_dir, progress.prepare, warn) if item.file not in chips)
        named = _with_names(items, {name for name in chips.values() if name})
        with open(folder / ROWS, "ab") as log:
            for row in parallel_map(lambda pair: _align(*pair, folder, size, score), named):
                log.write(files.to_json(row).encode() + b"\n")
        summary = _finish(folder)
        progress.note(
            f"{summary[ALIGNED]} chips, {summary[NO_FACE]} pictures without a face, "
            f"{summary[UNREADABLE]} unusable: {folder}"
        )
    return summary


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of faces.jsonl, after removing an incomplete last line."""
    path = folder / ROWS
    if not path.exists():
        return
    content = path.read_bytes()
    if (whole := content.rfind(b"\n") + 1) < len(content):
        with open(path, "r+b") as log:
            log.truncate(whole)
    yield from map(json.loads, content[:whole].splitlines())


def _with_names(items: Iterable[sources.Item], taken: set[str]) -> Iterator[tuple[sources.Item, str]]:
    """Yield each item with the path of its chip: with the suffix .png, or with .png appended if that is `taken`."""
    for item in items:
        name = _png_name(item.file)
        if name in taken:
            name = f"{item.file}.png"
        taken.add(name)
        yield item, name


def _align(item: sources.Item, name: str, folder: Path, size: int, score: float) -> dict[str, Any]:
    """Write the chip of an item as `name`, and return its row."""
    if item.data is None or item.label is None:
        return {"file": item.file, "status": UNREADABLE, "reason": item.reason}
    try:
        image = decode(item.data)
    except DecodeError as error:
        return {"file": item.file, "status": UNREADABLE, "reason": str(error)}
    face = middle_face(image, detector.detect(image, score))
    if face is None:
        return {"file": item.file, "status": NO_FACE}
    aligned = alignment.align(image, face)
    _write_png(folder / name, alignment.chip(image, aligned, size))
    return {
        "file": item.file,
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


def _write_png(path: Path, chip: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(chip))


def _finish(folder: Path) -> dict:
    """Write labels.csv, if labels are not in names, and summary.json."""
    rows = list(_rows(folder))
    labelled = [(row["chip"], Label(*row["label"])) for row in rows if row["status"] == ALIGNED]
    table = [
        (file, label.age_text, GENDERS[label.gender].capitalize(), label.race_text)
        for file, label in labelled
        if label.age_years < 0
    ]
    if table:
        write_csv(folder / LABELS, ("file", "age", "gender", "race"), table)
    counts = {status: sum(row["status"] == status for row in rows) for status in (ALIGNED, NO_FACE, UNREADABLE)}
    summary = {"schema": 1, "pictures": len(rows), **counts}
    write_json(folder / SUMMARY, summary)
    return summary
