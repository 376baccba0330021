"""The manifest of a checkpoint: size and sha256 of each of its files, written last, checked first.

Orbax commits a save atomically but keeps no checksum of array data: a flipped bit restores silently and a
deleted marker file goes unnoticed. A step without a good manifest does not exist here.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import agegender_jax
from agegender_jax import files

NAME = "manifest.json"
SCHEMA = 1


class BadCheckpoint(Exception):
    """A step that cannot be used; the text is the reason."""


def write(folder: Path, step: int, metrics: dict | None) -> None:
    """Brings every file of `folder` to the disk, then names them all in its manifest."""
    entries = {}
    for name in _names(folder):
        files.sync(folder / name)
        entries[name] = _entry(folder / name)
    for path in folder.rglob("*"):
        if path.is_dir():
            files.sync(path)
    record = {
        "schema": SCHEMA,
        "step": step,
        "version": agegender_jax.__version__,
        "metrics": metrics,
        "files": entries,
    }
    files.replace(folder / NAME, files.to_json(record, indent=1))


def read(folder: Path) -> dict:
    """The manifest of a step's folder, without a look at the other files.

    Raises:
      BadCheckpoint: there is none, or it is not one of this step.
    """
    try:
        record = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise BadCheckpoint(f"{NAME} is missing") from None
    except (OSError, ValueError, RecursionError):
        raise BadCheckpoint(f"{NAME} cannot be read") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise BadCheckpoint(f"{NAME} is not of schema {SCHEMA}")
    if str(record.get("step")) != folder.name:
        raise BadCheckpoint(f"{NAME} is of step {record.get('step')}")
    if not isinstance(record.get("files"), dict) or not record["files"]:
        raise BadCheckpoint(f"{NAME} lists no files")
    if not isinstance(record.get("metrics"), dict | None):
        raise BadCheckpoint(f"{NAME} holds no table of metrics")
    return record


def verify(folder: Path) -> None:
    """Raises BadCheckpoint, naming the file, unless every file is as it was written."""
    expected = read(folder)["files"]
    present = set(_names(folder))
    for name in sorted(expected):
        if name not in present:
            raise BadCheckpoint(f"{name} is missing")
        try:
            found = _entry(folder / name)
        except OSError as error:
            raise BadCheckpoint(f"{name} cannot be read ({error.strerror})") from None
        if found != expected[name]:
            raise BadCheckpoint(f"{name} is damaged ({_difference(found, expected[name])})")


def val_loss(record: dict) -> float:
    """The validation loss in a manifest; infinite where there is none, so that it is never the best."""
    value: Any = (record["metrics"] or {}).get("val_loss")
    return value if isinstance(value, int | float) and math.isfinite(value) else math.inf


def _names(folder: Path) -> list[str]:
    """The files below `folder` but the manifest, as relative posix paths."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != NAME)


def _entry(path: Path) -> dict:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _difference(found: dict, expected: Any) -> str:
    size = expected.get("size") if isinstance(expected, dict) else None
    return "sha256 differs" if found["size"] == size else f"{found['size']} bytes, not {size}"
