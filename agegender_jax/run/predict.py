"""The predict command: age and gender of every face in pictures, as rows, annotated copies and a page."""

import contextlib
import functools
import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from agegender_jax import files
from agegender_jax.errors import ConfigError
from agegender_jax.photos import detector as yunet
from agegender_jax.photos import face_chips as photo_faces
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run.cluster import Cluster
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.pictures import directories, prediction_rows, prediction_summary
from agegender_jax.run.pictures.drawings import ANNOTATED, COPIES, GALLERY, THUMBNAILS, Drawings
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.pictures.parquet_rows import RowParts, write_csv
from agegender_jax.run.pictures.picture_files import (
    PictureFile,
    check_outside,
    find,
    not_read,
    open_pictures,
    read_boxes,
    sources,
)
from agegender_jax.run.pictures.prediction_rows import STEM
from agegender_jax.run.pictures.prediction_summary import SUMMARY
from agegender_jax.run.workdir import check_unused, hold, keep_settings, make_out, write_json

SETTINGS = "predict.json"
WRITTEN = (f"{STEM}.*", SUMMARY, GALLERY, THUMBNAILS, COPIES, f"{ANNOTATED}/*")
RESTATED = "coverage", "over", "max_error"  # options whose fields follow from the probabilities in a row
DRAWN = "gallery", "annotate"  # options that earlier versions wrote into SETTINGS
ADDED = ("temperatures",)  # which they did not
UNCALIBRATED = (
    "these nets have no thresholds: no prediction is unsure, and intervals contain a share of the predicted "
    "probability; python -m launch.calibrate fits thresholds on their val split"
)


def predict(
    arguments: Sequence[str],
    *,
    workdirs: Sequence[str],
    out: str,
    weights: str | None = None,
    weights_dir: str | None = None,
    checkpoint: str = "best",
    detector: str = photo_faces.YUNET,
    boxes: str | None = None,
    score: float = yunet.SCORE,
    coverage: float = 0.9,
    over: Sequence[int] = (),
    max_error: float = 0.01,
    batch_size: int = 8,
    views: str | None = None,
    annotate: bool = False,
    gallery: bool = False,
    strict: bool = False,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Predict for every face of the pictures that `arguments` name, write the files to `out`, and return the summary.

    Repeat the call to continue after an interruption: unchanged pictures that already have rows keep them. Calls with
    other pictures add rows to the same files, if nets, boxes and settings are the same; `coverage`, `over`,
    `max_error`, `annotate` and `gallery` may differ. Then all rows get the fields for the new options, and earlier
    pictures are drawn as far as they still exist.

    Args:
      arguments: see `picture_files.open_pictures`.
      workdirs: runs of an ensemble; the shipped weights if empty.
      boxes: JSON file with the boxes of the faces, see `picture_files.read_boxes`.
      annotate: write copies of the pictures with boxes and predictions.
      gallery: write a page of all faces.
      strict: raise at the end if a picture could not be read.
      cluster: the cluster that predicts; this process if None. With a cluster, rows are Parquet files, and a CSV at the
        end.
      The others: see `Predictor`.

    Raises:
      ConfigError, DataError, CheckpointError: an argument is wrong, or pictures or nets cannot be used.
    """
    with contextlib.ExitStack() as stack:
        left_out: list[tuple[str, str]] = []
        pictures = stack.enter_context(open_pictures(arguments, left_out))
        stop = stack.enter_context(stop_flag())
        progress = stack.enter_context(Progress(stop=stop))
        if note := not_read(left_out):
            progress.warn(note)
        known_boxes = read_boxes(boxes) if boxes else None
        if detector == photo_faces.YUNET or known_boxes is not None:
            yunet.model_bytes()  # its absence is reported before nets are loaded
            yunet.use_one_thread()
        if known_boxes is not None:
            _check_boxes(known_boxes, str(boxes), pictures)
        if cluster:
            cluster.check(pictures, annotate or gallery)
        options = {"detector": detector, "score": score, "coverage": coverage, "over": over, "max_error": max_error}
        options |= {"views": views} if views else {}
        nets = {"weights": weights, "weights_dir": weights_dir, "checkpoint": checkpoint, "batch_size": batch_size}
        predictor = Predictor(*workdirs, **nets, **options)
        folder = files.resolve(out, "--out")
        if annotate:
            check_outside(folder, arguments, ANNOTATED)
        make_out(folder)
        stack.enter_context(hold(folder))
        check_unused(folder, SETTINGS, WRITTEN)
        settings = {"schema": 1, **_nets(predictor), **options, "boxes": known_boxes and _digest(known_boxes)}
        settings |= {"engine": "ray"} if cluster else {}
        columns, states = prediction_rows.columns(over), {picture.name: picture.state for picture in pictures}
        directories.check_same_pictures(folder / SETTINGS, states, prediction_rows.states(folder))
        places = directories.after(folder / SETTINGS)
        free = (*RESTATED, *DRAWN, directories.FIELD, directories.ONE)
        differ = keep_settings(folder / SETTINGS, settings, "predictions", free, ADDED)
        settings[directories.FIELD] = places
        if not differ:
            write_json(folder / SETTINGS, settings)
        restate = functools.partial(prediction_rows.restated, faces_from_probs=predictor.faces_from_probs)
        drawings = Drawings(folder, annotate, gallery, coverage)
        began, predicted, faces = time.monotonic(), 0, 0
        options_of_rows = columns, states, restate if differ else None
        with RowParts(folder / STEM, *options_of_rows) if cluster else RowFiles(folder, STEM, *options_of_rows) as rows:
            if differ:
                write_json(folder / SETTINGS, settings)
            waiting = [picture for picture in pictures if picture.name not in rows.done]
            if cluster:
                parts = stack.enter_context(cluster.predict(waiting, workdirs, nets | options, known_boxes, stop))
            else:
                again = find(drawings.missing(prediction_rows.read(folder)), pictures)
                parts = _predict(predictor, again + waiting, known_boxes, drawings, rows.done)
            for count, new in parts:
                rows.write(new)
                predicted += count
                faces += sum(row["gender"] is not None for row in new)
                progress.prepare(predicted, len(waiting), "pictures")
        if cluster:
            write_csv(folder / f"{STEM}.csv", columns, prediction_rows.read(folder))
        counts = len(rows.done), len(rows.done - states.keys()), len(waiting), faces
        summary = prediction_summary.write(folder, *counts, time.monotonic() - began)
        if len(pictures) == 1:
            prediction_summary.show(folder, pictures[0].name, over, progress)
        if predictor.calibration is None:
            progress.warn(UNCALIBRATED)
        drawings.finish(prediction_rows.read(folder), summary)
        prediction_summary.note(summary, folder, progress)
    if strict:
        prediction_summary.check_all_read(folder, {picture.name for picture in pictures})
    return summary


def _predict(
    predictor: Predictor,
    pictures: Sequence[PictureFile],
    boxes: dict[str, Any] | None,
    drawings: Drawings,
    done: Collection[str],
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Draw the pictures, and yield 1 and the rows of each one, one picture after the other.

    Args:
      done: names of pictures that have rows already, for which 0 and no rows are yielded.
    """
    for picture in predictor.pictures(sources(pictures, boxes), drawings.preview):
        is_new = picture.name not in done
        drawings.draw(picture, is_new)
        new = prediction_rows.rows(picture, predictor.name, predictor.faces_from_probs.ages) if is_new else []
        yield int(is_new), new


def _nets(predictor: Predictor) -> dict[str, Any]:
    """Return what the predictions depend on: names, digests and temperatures of nets, and the digest of thresholds."""
    return {
        "weights": predictor.name,
        "nets": [member.digest for member in predictor.members],
        "thresholds": _digest(predictor.fields),
    } | ({} if predictor.cards else {"temperatures": [list(member.temperatures) for member in predictor.members]})


def _digest(value: Any) -> str:
    return hashlib.sha256(files.to_json(value).encode()).hexdigest()


def _check_boxes(boxes: dict[str, Any], path: str, pictures: Sequence[PictureFile]) -> None:
    """Raise ConfigError if no picture has boxes, because the names in the file are different."""
    if pictures and not any(picture.name in boxes for picture in pictures):
        raise ConfigError(
            f"the boxes are for other pictures: none is for {pictures[0].name}",
            path,
            "name pictures in the file as on the command line, or as `file` in predictions.jsonl",
        )
