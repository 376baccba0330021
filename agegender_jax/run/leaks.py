"""Which images a run has seen, in training or to choose its best step, itself or through the weights it began with."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agegender_jax.data import splits
from agegender_jax.errors import DataError
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, write_csv


def find(place: Workdir, faces: Dataset, split: str) -> np.ndarray:
    """Places in `faces` of the images of a split that, or near-duplicates of which, a run has seen.

    Raises:
      DataError: the run's splits.csv, or that of the run it began with, is missing or damaged.
    """
    where = faces.indices(split)
    pairs = splits.near_duplicates(faces.prepared.dhash[where], np.concatenate([_trained(place), _inherited(place)]))
    return where[np.unique(pairs[:, 0])]


def inherit(place: Workdir, source: str) -> None:
    """Notes in inherited.csv what the run at `source` has seen, for one that begins with its weights."""
    if Path(source).expanduser().is_dir():
        earlier = Workdir(source)
        seen = np.concatenate([_trained(earlier), _inherited(earlier)])
        write_csv(place.inherited, ("dhash",), [[bits.tobytes().hex()] for bits in seen])


def kept(place: Workdir) -> list[np.ndarray]:
    """The split a run keeps to, from its splits.csv: split [M], sha256 [M], dhash uint8 [M, 32].

    Raises:
      DataError: splits.csv is missing or damaged.
    """
    return _columns(place.splits, ("split", "sha256", "dhash"))


def _trained(place: Workdir) -> np.ndarray:
    """Difference hashes uint8 [M, 32] of the images in a run's train and val splits."""
    return _hashes(place.splits, lambda row: row["split"] != "test")


def _inherited(place: Workdir) -> np.ndarray:
    return _hashes(place.inherited, lambda row: True) if place.inherited.exists() else np.zeros((0, 32), np.uint8)


def _hashes(path: Path, chosen) -> np.ndarray:
    return _columns(path, ("dhash",), chosen)[0]


def _columns(path: Path, names: Sequence[str], chosen=lambda row: True) -> list[np.ndarray]:
    """Columns of the chosen rows: dhash as uint8 [M, 32], others as [M] str."""
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [{name: row[name] for name in names} for row in csv.DictReader(file) if chosen(row)]
        hashes = np.frombuffer(bytes.fromhex("".join(row["dhash"] for row in rows)), np.uint8).reshape(len(rows), 32)
        return [hashes if name == "dhash" else np.array([row[name] for row in rows], str) for name in names]
    except (OSError, KeyError, TypeError, ValueError):
        raise DataError(
            f"without the run's {path.name} nobody can say whether it was trained on these images",
            str(path),
            "restore it by running that training's command again; launch.evaluate also takes --allow_leak",
        ) from None
