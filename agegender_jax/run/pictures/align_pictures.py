"""The align command for pictures without labels: a chip of every face, and a table of where it comes from."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agegender_jax import files
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.names import file_name
from agegender_jax.photos import detector, face_chips
from agegender_jax.prediction import pictures
from agegender_jax.prediction.face import NO_FACE, UNREADABLE
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.pictures import directories, jsonl_csv_rows
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.pictures.picture_files import PictureFile, check_outside, not_read, open_pictures
from agegender_jax.run.workdir import check_unused, hold, keep_settings, make_out, write_json

STEM, CHIPS, SETTINGS, SUMMARY = "faces", "chips", "align.json", "summary.json"
ALIGNED = "aligned"
COLUMNS = ("file", "status", "reason", "face", "faces", "chip", "box", "score", "landmarks", "flags")


def align(arguments: Sequence[str], *, out: str, size: int, score: float) -> dict[str, Any]:
    """Write a chip of each face of the pictures that `arguments` name to chips/ in `out`, and return summary.json.

    faces.jsonl and faces.csv have one row per face, and one for each picture without a face; `chip` names the file.
    Repeat the call to continue after an interruption.

    Args:
      arguments: see `picture_files.open_pictures`.
      out: folder.
      size: side of the chips in pixels.
      score: minimum score of a face.

    Raises:
      ConfigError, DataError: an argument is wrong, there is nothing to read, or `out` belongs to another call.
    """
    detector.model_bytes()
    detector.use_one_thread()
    left_out: list[tuple[str, str]] = []
    with open_pictures(arguments, left_out) as named, stop_flag() as stop, Progress(stop=stop) as progress:
        if note := not_read(left_out):
            progress.warn(note)
        folder = files.resolve(out, "--out")
        check_outside(folder, arguments, CHIPS)
        make_out(folder)
        with hold(folder):
            check_unused(folder, SETTINGS, (f"{STEM}.*", SUMMARY, f"{CHIPS}/*"))
            states = {picture.name: picture.state for picture in named}
            settings = {"schema": 1, "size": size, "score": score}
            rows_there = jsonl_csv_rows.states(folder / f"{STEM}.jsonl")
            directories.check_same_pictures(folder / SETTINGS, states, rows_there)
            places = directories.after(folder / SETTINGS)
            keep_settings(folder / SETTINGS, settings, "chips", (directories.FIELD,))
            write_json(folder / SETTINGS, settings | {directories.FIELD: places})
            (folder / CHIPS).mkdir(exist_ok=True)
            with RowFiles(folder, STEM, COLUMNS, states) as rows:
                waiting = [picture for picture in named if picture.name not in rows.done]
                items = ((picture, picture.source()) for picture in waiting)
                for i, written in enumerate(parallel_map(lambda item: _align(*item, folder, size, score), items)):
                    rows.write(written)
                    progress.prepare(i + 1, len(waiting), "pictures")
            summary = _summary(folder)
            write_json(folder / SUMMARY, summary)
            progress.note(
                f"{summary['chips']} chips of {summary['pictures']} pictures, {summary[NO_FACE]} without a face, "
                f"{summary[UNREADABLE]} unreadable: {folder}"
            )
    return summary


def _align(picture: PictureFile, source: Any, folder: Path, size: int, score: float) -> list[dict[str, Any]]:
    """Write the chips of a picture, and return its rows; runs in threads."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"file": picture.name, "reason": "", "faces": 0}
    stem = f"{CHIPS}/{file_name(picture.name)}"
    try:
        image = pictures.pixels(source)
    except pictures.Unusable as error:
        _remove_chips(folder, stem, 0)
        return [row | {"status": UNREADABLE, "reason": str(error)}]
    chips = face_chips.find(image, [size], score=score, chip_size=size)
    for i, chip in enumerate(chips):
        (folder / f"{stem}-{i}.png").write_bytes(png(chip.sized[size]))
    _remove_chips(folder, stem, len(chips))
    aligned = row | {"status": ALIGNED, "faces": len(chips)}
    return [
        aligned
        | {"face": i, "chip": f"{stem}-{i}.png", "box": np.round(chip.box, 2).tolist(), "flags": chip.flags}
        | {"score": round(chip.score or 0.0, 4), "landmarks": np.round(np.asarray(chip.landmarks), 2).tolist()}
        for i, chip in enumerate(chips)
    ] or [row | {"status": NO_FACE}]


def _remove_chips(folder: Path, stem: str, number: int) -> None:
    """Remove the chips from `number` on of an earlier call, when the picture had more faces."""
    while (folder / f"{stem}-{number}.png").exists():
        (folder / f"{stem}-{number}.png").unlink()
        number += 1


def png(chip: np.ndarray) -> bytes:
    """Return the content of a PNG file of uint8 RGB [S, S, 3]."""
    out = io.BytesIO()
    Image.fromarray(chip).save(out, "PNG", compress_level=4)
    return out.getvalue()


def _summary(folder: Path) -> dict[str, Any]:
    counts = {"pictures": 0, "chips": 0, NO_FACE: 0, UNREADABLE: 0}
    for row in jsonl_csv_rows.read(folder / f"{STEM}.jsonl"):
        counts["pictures"] += not row["face"]  # the first face, or none
        counts["chips" if row["status"] == ALIGNED else row["status"]] += 1
    return {"schema": 1, **counts}
