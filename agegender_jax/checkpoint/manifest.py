"""The manifest of a checkpoint: size and sha256 of each file, sealed by a digest; written last, checked first.

Orbax commits a save atomically but keeps no checksum of array data: a flipped bit restores silently and a deleted
marker file goes unnoticed. A step without a valid manifest is treated as absent.
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
    """A step that cannot be used; the text states the reason."""


class OtherSchema(BadCheckpoint):
    """A step in the format of another version of this library; it may be intact."""


def write(folder: Path, step: int, metrics: dict | None) -> None:
    """Sync every file in `folder` to disk, then list all of them in its manifest."""
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
    _write(folder, record)


def set_metrics(folder: Path, metrics: dict) -> None:
    """Replace the metrics in the manifest of a step's folder."""
    _write(folder, read(folder) | {"metrics": metrics})


def _write(folder: Path, record: dict) -> None:
    files.replace(folder / NAME, files.to_json(files.seal(record), indent=1))


def digest(folder: Path) -> str:
    """Return a SHA-256 over the file list in a step's manifest, which identifies the checkpoint."""
    return hashlib.sha256(files.to_json(read(folder)["files"]).encode()).hexdigest()


def read(folder: Path) -> dict:
    """Return the manifest of a step's folder; its other files are not read.

    Raises:
      BadCheckpoint: the manifest is missing, cannot be read (perhaps only temporarily), or belongs to another step.
      OtherSchema: another version of this library wrote it.
    """
    try:
        record = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise BadCheckpoint(f"{NAME} is missing") from None
    except OSError as error:
        raise BadCheckpoint(f"{NAME} cannot be read ({error.strerror})") from None
    except files.MALFORMED:
        raise BadCheckpoint(f"{NAME} is damaged") from None
    if not isinstance(record, dict) or type(record.get("schema")) is not int:
        raise BadCheckpoint(f"{NAME} is damaged")
    try:
        files.check_seal(record)
    except ValueError as error:
        raise BadCheckpoint(f"{NAME} is damaged: {error}") from None
    if record["schema"] != SCHEMA:
        raise OtherSchema(f"{NAME} is of schema {record['schema']}, written by version {record.get('version')}")
    if str(record.get("step")) != folder.name:
        raise BadCheckpoint(f"{NAME} is of step {record.get('step')}")
    if not isinstance(record.get("files"), dict) or not record["files"]:
        raise BadCheckpoint(f"{NAME} lists no files")
    if not isinstance(record.get("metrics"), dict | None):
        raise BadCheckpoint(f"{NAME} has no table of metrics")
    return record


def verify(folder: Path) -> None:
    """Raise BadCheckpoint, naming the file, unless every file is unchanged since it was written."""
    expected = read(folder)["files"]
    present = set(_names(folder))
    for name in sorted(expected):
        if name not in present:
            raise BadCheckpoint(f"{name} is missing")
        try:
            actual = _entry(folder / name)
        except OSError as error:
            raise BadCheckpoint(f"{name} cannot be read ({error.strerror})") from None
        if actual != expected[name]:
            raise BadCheckpoint(f"{name} is damaged ({_difference(actual, expected[name])})")


def losses(records: dict[int, dict]) -> dict[int, float]:
    """Return the loss of each step by which the best is selected; infinite for a step without one.

    This is `calibrated_loss` in the manifests. Version 0.1.0 wrote only `val_loss`, which is not comparable: if any
    evaluated step has no other loss, all are compared by `val_loss`.
    """
    metrics = {step: record["metrics"] or {} for step, record in records.items()}
    evaluated = [of for of in metrics.values() if _number(of, "val_loss") < math.inf]
    key = "calibrated_loss" if all(_number(of, "calibrated_loss") < math.inf for of in evaluated) else "val_loss"
    return {step: _number(of, key) for step, of in metrics.items()}


def _number(metrics: dict[str, Any], name: str) -> float:
    value = metrics.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else math.inf


def _names(folder: Path) -> list[str]:
    """Return the files below `folder` except the manifest, as relative POSIX paths."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != NAME)


def _entry(path: Path) -> dict:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _difference(actual: dict, expected: Any) -> str:
    size = expected.get("size") if isinstance(expected, dict) else None
    return "sha256 differs" if actual["size"] == size else f"{actual['size']} bytes, not {size}"
