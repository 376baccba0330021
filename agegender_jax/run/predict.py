"""The predict command: age and gender of every face in pictures, as rows, annotated copies and a page."""

import collections
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.photos import detector as yunet
from agegender_jax.photos import faces as photo_faces
from agegender_jax.prediction.face import NO_FACE, OK, UNREADABLE, UNSURE, Face, Picture
from agegender_jax.prediction.predictor import Predictor, WithBoxes
from agegender_jax.report import gallery as report_gallery
from agegender_jax.run import prediction_rows
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.picture_files import PictureFile, open_pictures, read_boxes
from agegender_jax.run.prediction_rows import RowFiles
from agegender_jax.run.workdir import make_out, write_json

SETTINGS, THUMBNAILS, GALLERY, ANNOTATED = "predict.json", "thumbnails.jsonl", "gallery.html", "annotated"
PREVIEW = 1600  # pixels of the longest side of annotated copies
SHOWN = 20  # answers that are printed for a single picture


def predict(
    arguments: Sequence[str],
    *,
    workdirs: Sequence[str],
    out: str,
    weights: str | None = None,
    checkpoint: str = "best",
    detector: str = photo_faces.YUNET,
    boxes: str | None = None,
    score: float = yunet.SCORE,
    coverage: float = 0.9,
    over: Sequence[int] = (),
    max_error: float = 0.01,
    batch_size: int = 8,
    annotate: bool = False,
    gallery: bool = False,
    strict: bool = False,
) -> dict[str, Any]:
    """Answer for every face of the pictures that `arguments` name, write the files to `out`, and return the summary.

    The same call continues an interrupted one: pictures that have their rows are not read again.

    Args:
      arguments: see `picture_files.open_pictures`.
      workdirs: runs that answer together; the weights of this package if empty.
      boxes: JSON file of the faces' boxes, see `picture_files.read_boxes`.
      annotate: write copies of the pictures with boxes and answers.
      gallery: write a page of all faces.
      strict: raise at the end if a picture could not be read.
      The others: see `Predictor`.

    Raises:
      ConfigError, DataError, CheckpointError: as the exit codes say.
    """
    with open_pictures(arguments) as pictures, stop_flag() as stop, Progress(stop=stop) as progress:
        if detector == photo_faces.YUNET and not boxes:
            yunet.model_bytes()  # its absence is reported before nets are loaded
        if detector == photo_faces.YUNET:
            yunet.use_one_thread()
        known = read_boxes(boxes) if boxes else None
        options = {"detector": detector, "score": score, "coverage": coverage, "over": over, "max_error": max_error}
        predictor = Predictor(*workdirs, weights=weights, checkpoint=checkpoint, batch_size=batch_size, **options)
        folder = files.expand(out, "--out").resolve()
        if annotate:
            _check_outside(folder, arguments)
        make_out(folder)
        settings = {"schema": 1, "weights": predictor.name, **options, "over": list(over), "boxes": bool(boxes)}
        _settle(folder, settings | {"gallery": gallery, "annotate": annotate})
        began, before = time.monotonic(), 0
        with RowFiles(folder, over) as rows:
            before = len(rows.done)
            waiting = [picture for picture in pictures if picture.name not in rows.done]
            for i, picture in enumerate(predictor.pictures(_sources(waiting, known), PREVIEW if annotate else 0)):
                if gallery:
                    _append(folder / THUMBNAILS, report_gallery.thumbnails(picture))
                if annotate and picture.faces:
                    _annotate(folder, picture)
                rows.write(prediction_rows.rows(picture, predictor.name, over))
                progress.prepare(i + 1, len(waiting), "pictures")
                if len(pictures) == 1:
                    _print(picture, progress)
        summary = _summary(folder, len(pictures), before, time.monotonic() - began)
        if gallery:
            answered = prediction_rows.read(folder / prediction_rows.JSONL)
            report_gallery.write(folder / GALLERY, answered, folder / THUMBNAILS, summary)
        write_json(folder / "summary.json", summary)
        _note(summary, folder, progress)
    if strict and (bad := summary["statuses"][UNREADABLE]):
        raise DataError(f"{bad} of {len(pictures)} files could not be read", str(folder), "the rows say why")
    return summary


def _sources(waiting: list[PictureFile], boxes: dict[str, list[list[float]]] | None) -> Iterator[tuple[str, Any]]:
    for picture in waiting:
        source = picture.source()
        yield picture.name, source if boxes is None else WithBoxes(source, boxes.get(picture.name, []))


def _check_outside(folder: Path, arguments: Sequence[str]) -> None:
    """Raise ConfigError where --out lies in a folder of pictures: its own pictures would be read by the next call."""
    for argument in arguments:
        place = Path(argument).expanduser()
        if argument != "-" and place.is_dir() and folder.is_relative_to(place.resolve()):
            raise ConfigError("--out is inside a folder of pictures", f"{folder} in {argument}", "name another --out")


def _settle(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a first call; raise ConfigError if an earlier call had others."""
    path = folder / SETTINGS
    settings = json.loads(files.to_json(settings))
    if path.exists():
        try:
            earlier = json.loads(path.read_bytes())
        except ValueError:
            earlier = None
        if earlier != settings:
            names = [name for name in settings if not isinstance(earlier, dict) or earlier.get(name) != settings[name]]
            raise ConfigError(
                f"--out holds answers of another call: {', '.join(names)} differ",
                str(folder),
                "name another --out, or delete that folder",
            )
    write_json(path, settings)


def _append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def _annotate(folder: Path, picture: Picture) -> None:
    """Write the copy of a picture; a name's hash keeps equal names of several folders apart."""
    stem = re.sub(r"[^\w.-]+", "_", Path(picture.name).stem, flags=re.ASCII)[:80].strip(".") or "picture"
    digest = hashlib.sha256(picture.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    (folder / ANNOTATED).mkdir(exist_ok=True)
    files.replace(folder / ANNOTATED / f"{stem}-{digest}.jpg", report_gallery.annotated(picture))


def answer(face: Face) -> str:
    """Return the answer about a face in one line."""
    low, high = face.age_interval
    text = f"age {face.age:.0f} ({low}-{high} at {face.coverage:.0%}), {face.gender} {face.confidence:.0%}"
    parts = [text, "unsure" if face.status == UNSURE else "", *face.flags]
    parts += [f"over {years}: {known['decision']} (p {known['p']:.2f})" for years, known in face.over.items()]
    return ", ".join(part for part in parts if part)


def _print(picture: Picture, progress: Progress) -> None:
    if not picture.faces:
        progress.note(f"{files.printable(picture.name)}: {picture.reason or 'no face'}")
    for face in picture.faces[:SHOWN]:
        x, y, width, height = face.box
        progress.note(f"{files.printable(picture.name)}: {answer(face)}, at {x:.0f},{y:.0f} {width:.0f}x{height:.0f}")


def _summary(folder: Path, pictures: int, before: int, seconds: float) -> dict[str, Any]:
    counts = collections.Counter(row["status"] for row in prediction_rows.read(folder / prediction_rows.JSONL))
    statuses = {status: counts[status] for status in (OK, UNSURE, NO_FACE, UNREADABLE)}
    return {
        "schema": 1,
        "pictures": pictures,
        "answered_before": before,
        "faces": counts[OK] + counts[UNSURE],
        "statuses": statuses,
        "seconds": round(seconds, 2),
        "pictures_per_second": round((pictures - before) / max(seconds, 1e-9), 2),
    }


def _note(summary: dict[str, Any], folder: Path, progress: Progress) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items() if count)
    earlier = f" ({summary['answered_before']} by an earlier call)" if summary["answered_before"] else ""
    progress.note(
        f"{summary['pictures']} pictures{earlier}, {summary['faces']} faces: {statuses or 'nothing'}; "
        f"{summary['pictures_per_second']:.1f} pictures a second"
    )
    progress.note(f"answers: {folder}")
