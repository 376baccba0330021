"""The predictor for photos, which finds the faces and predicts their age and gender."""

import dataclasses
import functools
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from PIL import Image

from agegender_jax import files
from agegender_jax.data import listing
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.data.views import VIEWS
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.photos import alignment, detector, face_chips
from agegender_jax.photos.face_chips import Chip
from agegender_jax.prediction import faces_from_probs, members, pictures
from agegender_jax.prediction.face import NO_FACE, OK, UNREADABLE, Face, Picture
from agegender_jax.prediction.members import Member
from agegender_jax.structs import Probs
from agegender_jax.weights import DEFAULT, FOLDER, Card

Looked = tuple[Picture, list[Chip]]  # without predictions

# Groups that are computed at the same time. XLA runs the programs that one thread dispatches one after the other, and a
# program keeps only some of the cores busy.
_COMPUTING = min(os.cpu_count() or 1, 8)
_dispatching = threading.Lock()  # so that a program is compiled once
_WAITING = 16  # pictures without enough faces for a batch, after which a partial batch is computed


class Predictor:
    """Find the faces of photos and predict their age and gender.

    `Predictor()` uses the shipped weights, `Predictor("runs/ran", "runs/resnet")` the nets of runs; several nets form
    an ensemble. Faces wait until a batch is full, but for a few pictures at most; batches are padded, so that only one
    program is compiled.

    Args:
      runs: folders of runs.
      weights: name of shipped weights, if no run is named; "default" if None.
      weights_dir: another folder of weights.
      checkpoint: of runs: "best", "latest" or a step.
      detector: "yunet", or "none" for pictures of one face each, cropped like those of training.
      score: minimum score of a face, above 0 and at most 1.
      coverage: share of age intervals that contain the age, 0.5 to 0.99.
      over: age in years, or several, for `Face.over`.
      max_error: largest share of wrong decisions in `Face.over`, 0.001 to 0.5, see `prediction.minimum_age`.
      batch_size: faces per batch.
      views: views of each face to average over, see `data.views`; None for those of each net's config, with which its
        calibration was fitted.

    Raises:
      ConfigError, CheckpointError: an argument is wrong, or a net cannot be loaded.
    """

    def __init__(
        self,
        *runs: str | Path,
        weights: str | None = None,
        weights_dir: str | Path | None = None,
        checkpoint: str | int = "best",
        detector: str = face_chips.YUNET,
        score: float = detector.SCORE,
        coverage: float = 0.9,
        over: Sequence[int] | int = (),
        max_error: float = 0.01,
        batch_size: int = 8,
        views: str | None = None,
    ):
        if detector not in (face_chips.YUNET, face_chips.NONE):
            raise ConfigError(f"unknown detector {detector!r}", "--detector", "use yunet or none")
        if not 0 < score <= 1:
            raise ConfigError(f"score {score} is impossible", "--score", "use a number above 0 and at most 1")
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ConfigError(f"batch_size {batch_size!r} is impossible", "--batch_size", "use a whole number from 1")
        if views not in (None, *VIEWS):
            raise ConfigError(f"unknown views {views!r}", "--views", f"use {', '.join(VIEWS)}")
        members.check_named(runs, weights, weights_dir, checkpoint)
        self.chip_size = alignment.CHIP_SIZE
        self.cards: list[Card] = []
        if runs:
            self.members, fields = members.from_runs(runs, checkpoint)
            path = files.expand(runs[0], "--workdir") / members.ANSWERS
            self.name = "+".join(member.name for member in self.members)
        else:
            self.name = weights or DEFAULT
            folder = files.expand(weights_dir, "weights_dir") if weights_dir else None
            self.members, fields, self.cards = members.from_weights(self.name, folder)
            self.chip_size = self.cards[0].chip_size
            path = (folder or FOLDER) / f"{self.name}.json"
        self.members = [_ready_to_run(net, views) for net in self.members]
        self.fields = fields  # of the calibration, as JSON
        self.calibration = members.as_calibration(fields, path)
        self.faces_from_probs = faces_from_probs.FacesFromProbs(
            self.calibration,
            coverage,
            (over,) if isinstance(over, int) else tuple(over),
            max_error,
            members.label_groups(self.members),
        )
        self.detector, self.score, self.batch_size = detector, score, batch_size
        self.sizes = sorted({member.image_size for member in self.members})

    def __call__(self, source: Any) -> list[Face] | Iterator[Face]:
        """Return the faces of a picture, or yield those of an iterable of pictures.

        Args:
          source: a path, an open file, a file's bytes, a Pillow image, uint8 RGB pixels [H, W, 3], or an iterable of
            these.

        Raises:
          DataError: a single picture cannot be read. In an iterable this gives only a warning; `pictures` gives the
            reasons.
        """
        if not pictures.is_one(source):
            return self._faces(source)
        (picture,) = self.pictures([source])
        if picture.status == UNREADABLE:
            folder = isinstance(source, str | os.PathLike) and os.path.isdir(source)
            fix = "pass its pictures: predictor.pictures([path, ...])" if folder else "pass another picture"
            raise DataError(f"the picture cannot be used: {picture.reason}", picture.name, fix)
        return list(picture.faces)

    def pictures(self, sources: Iterable[Any], previews: int = 0) -> Iterator[Picture]:
        """Yield a Picture for each source, in order; a bad source does not raise an error.

        A few sources are taken ahead. An iterable other than a list, a tuple or an array may close or overwrite a
        source when the next one is taken from it.

        Args:
          sources: see `__call__`; also (name, source) pairs, whose source may be a function that returns bytes. One
            picture is taken as a list of it.
          previews: longest side of `Picture.preview` in pixels; 0 for none.
        """
        sources = [sources] if pictures.is_one(sources) else sources
        named = (
            source if isinstance(source, tuple) and len(source) == 2 else (pictures.name_of(source, i), source)
            for i, source in enumerate(sources)
        )
        if not (isinstance(sources, list | tuple) or hasattr(sources, "__array__")):
            named = ((name, _kept(source)) for name, source in named)
        looked = parallel_map(lambda item: self._look(item[0], item[1], previews), named)
        groups = parallel_map(self._computed, self._groups(looked), threads=_COMPUTING, ahead=2)
        for group, probs in groups:
            if probs is None:
                yield from (picture for picture, _ in group)
            else:
                yield from self.faces_from_probs.add_faces(group, probs, max(self.sizes))

    def probs(self, sized: dict[int, np.ndarray]) -> Probs:
        """Return the calibrated probabilities of the ensemble for N chips.

        The batches are computed one after the other. `pictures` calls this in several threads, and so keeps more cores
        busy.

        Args:
          sized: size -> uint8 RGB [N, size, size, 3] for each of `sizes`.
        """
        return _joined(self._compute(sized), len(sized[self.sizes[0]]))

    def _faces(self, sources: Iterable[Any]) -> Iterator[Face]:
        for picture in self.pictures(sources):
            if picture.status == UNREADABLE:
                warnings.warn(f"{picture.name} cannot be used: {picture.reason}", stacklevel=2)
            yield from picture.faces

    def _compute(self, sized: dict[int, np.ndarray]) -> list[Probs]:
        """Return the probabilities of padded batches, of which at most two are computed at a time."""
        batches: list[Probs] = []
        for start in range(0, len(sized[self.sizes[0]]), self.batch_size):
            images = {
                size: _padded(chips[start : start + self.batch_size], self.batch_size) for size, chips in sized.items()
            }
            for earlier in batches[-2:-1]:
                np.asarray(earlier.gender)  # waits
            with _dispatching:
                batches.append(members.mean_probs(self.members, images))
        return batches

    def _look(self, name: str, source: Any, previews: int) -> tuple[Picture, list[Chip]]:
        """Return a picture without predictions, and its chips; runs in threads."""
        boxes = None
        if isinstance(source, WithBoxes):
            source, boxes = source.source, source.boxes
        try:
            image = pictures.pixels(source)
            pictures.check_boxes(boxes or (), *image.shape[:2])
        except pictures.Unusable as error:
            return Picture(name, UNREADABLE, str(error), ()), []
        chips = face_chips.find(
            image, self.sizes, kind=self.detector, score=self.score, boxes=boxes, chip_size=self.chip_size
        )
        preview, scale = pictures.preview(image, previews) if previews else (None, 1.0)
        return Picture(name, OK if chips else NO_FACE, "", (), preview, scale), chips

    def _groups(self, looked: Iterable[Looked]) -> Iterator[list[Looked]]:
        """Yield pictures in groups that have a full batch of faces, or no faces; the last one before an error, too."""
        waiting: list[Looked] = []
        try:
            for picture, chips in looked:
                waiting.append((picture, chips))
                count = sum(len(chips) for _, chips in waiting)
                if count >= self.batch_size or not count or len(waiting) >= max(_WAITING, self.batch_size):
                    full, waiting = waiting, []
                    yield full
        except Exception:
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    def _computed(self, group: list[Looked]) -> tuple[list[Looked], Probs | None]:
        """Return a group and the probabilities of its faces, None if it has none; runs in threads."""
        chips = [chip for _, chips in group for chip in chips]
        if not chips:
            return group, None
        return group, self.probs({size: np.stack([chip.sized[size] for chip in chips]) for size in self.sizes})


def _ready_to_run(member: Member, views: str | None) -> Member:
    """Return a net with its weights on the device, and with other views where they are named."""
    config = member.config | ({"eval": {"views": views}} if views else {})
    return dataclasses.replace(member, config=config, variables=jax.device_put(member.variables))


def _padded(chips: np.ndarray, count: int) -> np.ndarray:
    return chips if len(chips) == count else np.pad(chips, ((0, count - len(chips)), (0, 0), (0, 0), (0, 0)))


def _joined(batches: list[Probs], count: int) -> Probs:
    """Return the first `count` rows of batches, numpy."""
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *batches)


class WithBoxes:
    """A source of `Predictor.pictures` whose faces are in known boxes.

    Args:
      source: see `Predictor.__call__`.
      boxes: x, y, width and height of each face in pixels of the upright picture.
    """

    def __init__(self, source: Any, boxes: Sequence[Sequence[float]]):
        self.source, self.boxes = source, boxes


def _kept(source: Any) -> Any:
    """Return a source that stays the same when its caller closes or overwrites it.

    It is pixels, bytes, or a function that returns bytes or raises the error. A Pillow image is decoded, since it may
    still have to be read from a file.
    """
    if isinstance(source, WithBoxes):
        return WithBoxes(_kept(source.source), source.boxes)
    if isinstance(source, str | os.PathLike | bytes):
        return source
    try:
        if isinstance(source, Image.Image) or hasattr(source, "__array__"):
            return np.array(pictures.pixels(source))
        if isinstance(source, bytearray | memoryview):
            return bytes(source)
        if hasattr(source, "read"):
            content = source.read(listing.MAX_BYTES + 1)
            return lambda: content
    except pictures.Unusable as error:
        return functools.partial(_fail, listing.Unreadable(str(error)))
    except Exception as error:  # nearly anything, as the file or the array is the caller's
        return functools.partial(_fail, error)
    return source


def _fail(error: Exception) -> NoReturn:
    raise error
