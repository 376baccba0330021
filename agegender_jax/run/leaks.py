"""Images that a run has seen in training or validation, itself or through the nets that it started or learned from."""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agegender_jax import csv_cells, files
from agegender_jax.data import near_duplicates
from agegender_jax.data.splits import UNUSED
from agegender_jax.errors import DataError
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, write_csv

SPLITS = ("train", "val", "test", UNUSED)
HASHES = ("dhash", "thumbnail")  # bytes, as hex in a CSV
INHERITED = (*HASHES, "split")  # the columns of inherited.csv; files of earlier versions have no split
THUMBNAIL = near_duplicates.SIDE**2


@dataclasses.dataclass(frozen=True)
class Images:
    """Rows of a splits.csv or inherited.csv.

    Attributes:
      file, split, sha256: str [M]; empty strings if there is no such column.
      dhash: uint8 [M, 64]. Files written by version 0.2 have 32 bytes, see `near_duplicates.halves`.
      thumbnail: uint8 [M, 144].
      has_thumbnail: bool [M]; files written by version 0.1 have none.
    """

    file: np.ndarray
    split: np.ndarray
    sha256: np.ndarray
    dhash: np.ndarray
    thumbnail: np.ndarray
    has_thumbnail: np.ndarray


def find(run: Workdir, faces: Dataset, split: str) -> np.ndarray:
    """Return the indices in `faces` of the images of a split that the run has seen, or near-duplicates of which it has.

    In the run's own source, a similar hash is enough, as in the groups of its splits. In another source, and for images
    that only an earlier run has seen, `near_duplicates.confirmed` decides; without a thumbnail, a similar hash is
    enough.

    Raises:
      DataError: splits.csv of the run, or its inherited.csv, is missing or damaged.
    """
    prepared, where = faces.prepared, faces.indices(split)
    own = _seen(run)
    pairs = [_near(prepared, where, own, confirm=_source_of(run) != prepared.fingerprint)]
    if run.inherited.exists():
        pairs.append(_near(prepared, where, _read(run.inherited), confirm=True))
    return where[np.unique(np.concatenate(pairs))]


def find_trained_val(run: Workdir, faces: Dataset) -> np.ndarray:
    """Return the indices of the images of val that a run has been trained on through the nets in its inherited.csv.

    On such images, the run's losses, temperatures and thresholds are better than on others.

    Raises:
      DataError: inherited.csv is damaged.
    """
    where = faces.indices("val")
    if not run.inherited.exists() or not len(where):
        return where[:0]
    trained = _read(run.inherited, lambda row: row.get("split") == "train")
    return where[np.unique(_near(faces.prepared, where, trained, confirm=True))] if len(trained.dhash) else where[:0]


def inherit(run: Workdir, sources: Sequence[str]) -> None:
    """Write to inherited.csv what the runs among `sources` have seen, for a run that starts or learns from them.

    An image that one of them was trained on, and another one only validated on, is in "train".
    """
    runs = [Workdir(source) for source in sources if files.expand(source, "--config").is_dir()]
    if not runs:
        return
    seen = [_seen(earlier) for earlier in runs]
    seen += [_read(earlier.inherited) for earlier in runs if earlier.inherited.exists()]
    rows: dict[tuple[str, str], str] = {}
    for images in seen:
        for bits, pixels, known, split in zip(
            images.dhash, images.thumbnail, images.has_thumbnail, images.split, strict=True
        ):
            image = bits.tobytes().hex(), pixels.tobytes().hex() if known else ""
            rows[image] = str(split) if split == "train" else rows.get(image, str(split))
    write_csv(run.inherited, INHERITED, [(*image, split) for image, split in rows.items()])


def read_splits(run: Workdir) -> Images:
    """Return all rows of a run's splits.csv.

    Raises:
      DataError: it is missing or damaged.
    """
    return _read(run.splits)


def _seen(run: Workdir) -> Images:
    return _read(run.splits, lambda row: row["split"] in ("train", "val"))


def _source_of(run: Workdir) -> str | None:
    source = (run.read_run() or {}).get("source")
    return source.get("fingerprint") if isinstance(source, dict) else None


def _near(prepared, where: np.ndarray, seen: Images, confirm: bool) -> np.ndarray:
    """Return the positions in `where` of images close to a seen one, int [K]; with `confirm`, only confirmed pairs.

    Mirror images that the groups of splits miss must be confirmed in any case.
    """
    hashes, thumbnails = prepared.dhash[where], prepared.thumbnail[where]
    half = near_duplicates.HALF
    i, j = near_duplicates.pairs_between(hashes[:, :half], seen.dhash[:, :half]).T
    if confirm:
        same = near_duplicates.confirmed((hashes[i], seen.dhash[j]), (thumbnails[i], seen.thumbnail[j]))
        i = i[same | ~seen.has_thumbnail[j]]
    mirrored = near_duplicates.mirrored_copies_between((hashes, seen.dhash), (thumbnails, seen.thumbnail))
    return np.concatenate([i, mirrored[:, 0]])


def _read(path: Path, is_included: Callable[[dict], bool] = lambda row: True) -> Images:
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if "dhash" not in (reader.fieldnames or ()):
                raise KeyError("dhash")
            rows = [row for row in map(_checked, reader) if is_included(row)]
        texts = {
            name: np.array([csv_cells.original(row.get(name, "")) for row in rows], str)
            for name in ("file", "split", "sha256")
        }
        thumbnails = [row.get("thumbnail", "") for row in rows]
        return Images(
            dhash=_hashes([row["dhash"] for row in rows]),
            thumbnail=_bytes([text or "00" * THUMBNAIL for text in thumbnails], THUMBNAIL),
            has_thumbnail=np.array([bool(text) for text in thumbnails], bool),
            **texts,
        )
    except (OSError, csv.Error, *files.MALFORMED):
        raise DataError(
            f"{path.name} of the run is missing or damaged: cannot check for train/test leakage",
            str(path),
            "repeat the command of that training to restore it, or pass --allow_leak to launch.evaluate",
        ) from None


def _checked(row: dict) -> dict:
    """Return a row; raise ValueError if it has too few or too many cells, or an unknown split."""
    if None in row or None in row.values() or row.get("split", UNUSED) not in SPLITS:
        raise ValueError
    return row


def _hashes(texts: list[str]) -> np.ndarray:
    """Return hexadecimal hashes of 64 or 32 bytes as uint8 [M, 64]."""
    hashes = np.zeros((len(texts), 2 * near_duplicates.HALF), np.uint8)
    old = np.array([len(text) == 2 * near_duplicates.HALF for text in texts], bool)
    for kind, size in ((old, near_duplicates.HALF), (~old, 2 * near_duplicates.HALF)):
        hashes[kind] = near_duplicates.whole(_bytes([texts[i] for i in np.flatnonzero(kind)], size))
    return hashes


def _bytes(texts: list[str], size: int) -> np.ndarray:
    """Return hexadecimal strings of `size` bytes each as uint8 [M, size]."""
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), size)
