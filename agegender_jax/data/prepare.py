"""Prepare a source once, store the result under the source's fingerprint, and reuse it."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax.data import (
    cache,
    checksums,
    fairface,
    fingerprint_cache,
    named_sources,
    near_duplicates,
    resolve,
    sources,
    splits,
)
from agegender_jax.data.cache import Progress
from agegender_jax.data.decoding import DecodeError, decode
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.data.prepared import Prepared
from agegender_jax.errors import DataError, UserError
from agegender_jax.files import expand, replace, to_json

OnBad = Callable[[list[tuple[str, str]]], str]
INDEX, BAD = "index.npz", "bad.json"
MOST_ALLOWED = 0.2  # share of unusable files up to which the error suggests a larger data.max_bad


def prepare(
    spec: str,
    cache_dir: str | None = None,
    max_bad: float = 0.01,
    progress: Progress | None = None,
    on_bad: OnBad | None = None,
) -> Prepared:
    """Read, check, decode and group the images of `spec`, or load the prepared data of an earlier start.

    The source is copied to a temporary file in the cache, so it is read only once. A source whose files' names, sizes,
    inodes and times have not changed since an earlier start is not read at all. It takes about 2 kB of memory per
    image.

    Args:
      spec: as for `sources.read`.
      cache_dir: folder of the prepared data; the user's cache folder if None or "".
      max_bad: largest share of unusable files, 0 to 1.
      progress: is called with (done, total, text) in each phase; its exceptions end the work.
      on_bad: writes a list of the unusable files and returns its path; called before an error about them.

    Raises:
      DataError: no usable image, or more than `max_bad` of the files unusable.
      ConfigError: `cache_dir` cannot be written, or threads cannot be started.
      OSError: the disk is full.
    """
    from agegender_jax.data import builder  # here, because its absence (it needs TFDS) is not damage to prepared data

    folder = resolve.cache_folder(cache_dir)
    resolve.check_outside(spec, folder.resolve(), "data.cache_dir")
    cache.writable(folder)
    builder.check_threads()

    def folder_of(fingerprint: str) -> Path:
        return folder / f"{fingerprint[:16]}-{builder.VERSION}"

    left_out = sources.left_out(spec)
    stamp = fingerprint_cache.path(spec, folder, progress)
    fingerprint = fingerprint_cache.read(stamp) or ""
    content = _find(folder_of(fingerprint), progress) if fingerprint else None
    if content is None:
        with cache.full_disk(folder), tempfile.TemporaryFile(dir=folder) as spool:
            files = [_spool(item, spool) for item in sources.read(spec, str(folder), progress)]
            spool.flush()
            fingerprint = _fingerprint(files)
            content = _find(
                folder_of(fingerprint), progress, lambda out: _build(out, files, spool.fileno(), spec, progress, on_bad)
            )
        if stamp and not any(file.failed for file in files) and fingerprint_cache.still(stamp, spec, folder):
            fingerprint_cache.write(stamp, fingerprint)
    named_sources.remember(spec, cache_dir)
    records, columns, bad = content
    _check_bad(spec, len(records), bad, max_bad, on_bad)
    age = np.stack([columns.pop("age_first"), columns.pop("age_last")], 1)
    name = sources.source_name(spec)
    return Prepared(
        name=name,
        fingerprint=fingerprint,
        folder=folder_of(fingerprint),
        records=records,
        age=age,
        bad=bad,
        left_out=left_out,
        **columns,
    )


def prepared_in(cache_dir: str, fingerprint: str) -> bool:
    """Return whether a folder holds prepared data of a source, of any version of this library."""
    if not cache_dir or not re.fullmatch("[0-9a-f]{64}", fingerprint):
        return False
    return any(expand(cache_dir, "data.cache_dir").glob(f"{fingerprint[:16]}-*"))


@dataclasses.dataclass(frozen=True)
class _File:
    """An image file of a source, its bytes at `start` of the spool.

    Attributes:
      failed: whether reading it failed, perhaps only for the moment.
    """

    file: str
    label: Any
    reason: str | None
    digest: bytes
    start: int
    size: int
    failed: bool


def _spool(item: sources.Item, spool) -> _File:
    """Append an item's bytes to the spool."""
    data = item.data or b""
    start = spool.tell()
    spool.write(data)
    failed = item.data is None and (item.label is not None or str(item.reason).startswith("cannot be read"))
    return _File(item.file, item.label, item.reason, hashlib.sha256(data).digest(), start, len(data), failed)


def _fingerprint(files: Iterable[_File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        line = f"{file.digest.hex()} {file.file}\n"
        if file.label and file.label.age_years < 0:  # a group of ages: from a CSV, not in the file's name
            line += f"{dataclasses.astuple(file.label)}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _find(folder: Path, progress: Progress | None, build: Callable[[Path], None] | None = None):
    """Return the prepared data in `folder`, built with `build` if necessary; None if they are missing without it."""
    with cache.locked(folder, progress) as alone:
        content = _open(folder, progress)
        if content is None and build:
            if alone:
                cache.remove_leftovers(folder)
            unfinished = cache.new_folder(folder)
            try:
                build(unfinished)
                cache.replace_folder(unfinished, folder)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            content = _read(folder)
        return content


def _open(folder: Path, progress: Progress | None):
    """Return the prepared data in `folder`; None if they are missing or damaged. Nothing is removed."""
    try:
        if not folder.exists():
            return None
        for path in (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"):
            path.open("rb").close()  # array_record does not report missing permissions or file handles
        return _read(folder)
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
        progress(0, 1, f"prepared data are damaged ({problem}); making them again")
    return None


def _build(
    folder: Path, files: list[_File], spool: int, spec: str, progress: Progress | None, on_bad: OnBad | None
) -> None:
    """Write the prepared form of the files whose bytes are in the spool, a file handle, to `folder`."""
    from agegender_jax.data import builder

    def data(file: _File) -> bytes:
        return os.pread(spool, file.size, file.start)

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
    _check_any(spec, records, bad, on_bad)
    hashes = np.stack([record["dhash"] for record in records])
    groups = splits.groups([record["content"] for record in records], hashes, progress)

    def examples() -> Iterator[dict]:
        for i, (file, record) in enumerate(zip(usable_files, records, strict=True)):
            if progress:
                progress(i + 1, len(records), "writing the prepared images")
            yield record | {"group": int(groups[i]), "image": data(file)}

    builder.write(folder, examples())
    _write_index(folder / INDEX, builder.read(folder))
    replace(folder / BAD, to_json(sorted(bad)))
    checksums.write(folder)


def _examine(file: _File, data: bytes) -> dict | str:
    """Return the record of an image but for its bytes, or the reason why it cannot be used."""
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


def _check_any(spec: str, records: list, bad: list, on_bad: OnBad | None) -> None:
    if not records:
        first = f", the first: {bad[0][0]}: {bad[0][1]}" if bad else ""
        listed = f"; {on_bad(sorted(bad))} lists these files" if on_bad else ""
        raise DataError(
            f"no usable image among {len(bad)} files{first}",
            spec,
            f"give UTKFace-named images or a FairFace CSV{listed}",
        )


def _check_bad(spec: str, good: int, bad: list[tuple[str, str]], max_bad: float, on_bad: OnBad | None) -> None:
    share = len(bad) / (good + len(bad))
    some = "; ".join(f"{file}: {reason}" for file, reason in bad[:3])
    damaged = [f"{file}: {reason}" for file, reason in bad if fairface.DAMAGE in reason]
    if damaged and max_bad < 1:  # whole age groups would be missing
        raise DataError(
            f"a spreadsheet has changed the ages of {len(damaged)} images in the CSV ({damaged[0]})",
            spec,
            "restore the CSV as it was published; in a spreadsheet, import its columns as text",
        )
    if share > max_bad:
        listed = f" that {on_bad(bad)} lists" if on_bad else ""
        allow = f", or allow them with --config.data.max_bad={round(share + 0.005, 2)}" if share <= MOST_ALLOWED else ""
        raise DataError(
            f"{len(bad)} of {good + len(bad)} files are unusable, more than data.max_bad {max_bad:g} ({some})",
            spec,
            f"fix or remove the files{listed}{allow}",
        )


def _read(folder: Path) -> tuple[Any, dict[str, np.ndarray], list[tuple[str, str]]]:
    """Return the records of a prepared folder, their columns, and the bad files."""
    from agegender_jax.data import builder

    checksums.check(folder)
    records = builder.read(folder)
    with np.load(folder / INDEX) as stored:
        columns = {key.removeprefix("column_"): stored[key] for key in stored.files}
    if any(len(values) != len(records) for values in columns.values()):
        raise ValueError(f"{INDEX} does not fit the records")
    return records, columns, [tuple(pair) for pair in json.loads((folder / BAD).read_text())]


def _write_index(path: Path, records: Iterable[dict]) -> None:
    """Write the records' columns but the image, in their stored order, so that a start does not read the images."""
    columns: dict[str, list] = {}
    for record in records:
        for name, value in record.items():
            if name != "image":
                columns.setdefault(name, []).append(_text(value))
    with open(path, "wb") as file:
        np.savez(file, **{f"column_{name}": np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
