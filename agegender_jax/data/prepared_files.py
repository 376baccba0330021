"""The files of prepared data: the images as records, their labels as columns, and the list of unusable files."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax.data import cache, checksums, near_duplicates, splits, unusable_files
from agegender_jax.data.cache import Progress
from agegender_jax.data.decoding import DecodeError, decode
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.data.source_copy import CopiedFile
from agegender_jax.data.unusable_files import Unusable
from agegender_jax.errors import UserError
from agegender_jax.files import replace, to_json

INDEX, BAD = "index.npz", "bad.json"


def write(
    folder: Path,
    files: list[CopiedFile],
    copy: int,
    spec: str,
    progress: Progress | None,
    on_bad: unusable_files.OnBad | None,
) -> None:
    """Write the prepared form of the files whose bytes are in `copy`, a file handle, to `folder`."""
    from agegender_jax.data import tfds_builder

    def data(file: CopiedFile) -> bytes:
        return os.pread(copy, file.size, file.start)

    bad = [(file.file, file.reason) for file in files if file.reason]
    usable = [file for file in files if not file.reason]
    usable_files, records = [], []
    for file, record in zip(usable, parallel_map(lambda file: _examine(file, data(file)), usable), strict=True):
        if isinstance(record, str):
            bad.append((file.file, record))
        else:
            usable_files.append(file)
            records.append(record)
        if progress:
            progress(len(records) + len(bad), len(files), "checking images")
    unusable_files.check_any(spec, records, bad, on_bad)
    hashes = np.stack([record["dhash"] for record in records])
    groups = splits.groups([record["content"] for record in records], hashes, progress)
    mirrored = splits.mirrored(hashes, np.stack([record["thumbnail"] for record in records]), progress)

    def examples() -> Iterator[dict]:
        for i, (file, record) in enumerate(zip(usable_files, records, strict=True)):
            if progress:
                progress(i + 1, len(records), "writing the prepared images")
            yield record | {"group": int(groups[i]), "mirrored": int(mirrored[i]), "image": data(file)}

    tfds_builder.write(folder, examples())
    _write_index(folder / INDEX, tfds_builder.read(folder))
    replace(folder / BAD, to_json(sorted(bad)))
    checksums.write(folder)


def _examine(file: CopiedFile, data: bytes) -> dict | str:
    """Return the record of an image without its bytes, or the reason why it cannot be used."""
    try:
        pixels = decode(data)
    except DecodeError as error:
        return error.reason
    raw = pixels.reshape(-1)
    content = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]} ".encode())
    content.update(raw.data)
    return dataclasses.asdict(file.label) | {
        "file": file.file,
        "sha256": hashlib.sha256(raw.data).hexdigest(),
        "content": content.hexdigest(),
        "dhash": near_duplicates.dhash(pixels),
        "thumbnail": near_duplicates.thumbnail(pixels),
    }


def with_current_reasons(unusable: Unusable, files: list[CopiedFile]) -> Unusable:
    """Return the unusable files of a source with the reasons that hold for `files`, sorted.

    Sources with equal fingerprints share prepared data, whose list has the reasons of the first. They may differ in the
    reasons of files without a label, for example after a row of a CSV has been corrected or removed.

    Args:
      unusable: the list in the prepared data.
      files: of the source, with the fingerprint of the prepared data.
    """
    current = [(file.file, file.reason) for file in files if file.reason]
    current += [(file.file, str(_examine(file, b""))) for file in files if not file.reason and not file.size]
    decoded, known = {file.file for file in files if not file.reason and file.size}, set(current)
    return sorted(current + [pair for pair in unusable if pair[0] in decoded and pair not in known])


def _write_index(path: Path, records: Iterable[dict]) -> None:
    """Write all columns of the records except the image, in stored order, so that a start need not read the images."""
    columns: dict[str, list] = {}
    for record in records:
        for name, value in record.items():
            if name != "image":
                columns.setdefault(name, []).append(_text(value))
    with open(path, "wb") as file:
        np.savez(file, **{f"column_{name}": np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def read_if_whole(folder: Path, progress: Progress | None):
    """Return the prepared data in `folder`; None if they are missing or damaged. Nothing is removed."""
    try:
        if not folder.exists():
            return None
        for path in (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"):
            path.open("rb").close()  # array_record does not report missing permissions or file handles
        return read(folder)
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        problem = "a file is missing"
    except OSError as error:
        if error.errno is not None:
            raise cache.unreadable(folder, error) from error
        problem = str(error)
    except Exception as error:  # array_record and TFDS raise many kinds
        problem = str(error)
    if progress:
        progress(0, 1, f"prepared data are damaged ({problem}); they are prepared again")
    return None


def read(folder: Path) -> tuple[Any, dict[str, np.ndarray], Unusable]:
    """Return the records of a prepared folder, their columns, and the unusable files, see `with_current_reasons`."""
    from agegender_jax.data import tfds_builder

    checksums.check(folder)
    records = tfds_builder.read(folder)
    with np.load(folder / INDEX) as stored:
        columns = {key.removeprefix("column_"): stored[key] for key in stored.files}
    if any(len(values) != len(records) for values in columns.values()):
        raise ValueError(f"{INDEX} does not fit the records")
    return records, columns, [tuple(pair) for pair in json.loads((folder / BAD).read_text())]
