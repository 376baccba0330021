"""A source made ready once, kept under its fingerprint, and found again."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax.data import fingerprint_cache, near_duplicates, sources, splits
from agegender_jax.data.decoding import DecodeError, decode, resize
from agegender_jax.data.resolve import Progress
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.files import replace, sync, to_json

OnBad = Callable[[list[tuple[str, str]]], str]
INDEX, BAD = "index.npz", "bad.json"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All usable faces of a source, in the order in which TFDS keeps them: shuffled, the same for the same files.

    Attributes:
      name: of the source. fingerprint: hex, of its files' names, bytes and CSV labels. folder: where it is kept.
      records: random access to the encoded images.
      file, age_text, race_text, sha256, content: [N] str; sha256 is of the decoded RGB pixels, content of their
        shape too: equal for equal pictures.
      age_years: int32 [N], -1 where only a group is known.
      age: int32 [N, 2], first and last right bucket. gender, race, group: int32 [N].
      dhash: uint8 [N, 32]. thumbnail: uint8 [N, 144], see `near_duplicates`.
      bad: (file, reason) of every unusable file.
    """

    name: str
    fingerprint: str
    folder: Path
    records: object
    file: np.ndarray
    age_text: np.ndarray
    race_text: np.ndarray
    sha256: np.ndarray
    content: np.ndarray
    age_years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    race: np.ndarray
    group: np.ndarray
    dhash: np.ndarray
    thumbnail: np.ndarray
    bad: list[tuple[str, str]]

    def encoded(self, index: int) -> bytes:
        """An image's bytes as they came. DataError where the record can no longer be read."""
        try:
            return self.records[int(index)]["image"]
        except Exception as error:  # array_record raises many kinds
            raise DataError(
                f"a prepared record cannot be read: {error}", str(self.folder), "remove that folder; it is made again"
            ) from error

    def images(self, size: int, progress: Progress | None = None) -> np.ndarray:
        """Decoded images at `size` pixels, memory-mapped uint8 [N, size, size, 3]; made at the first call."""
        path, shape = self.folder / f"images_{size}.npy", (len(self.file), size, size, 3)
        with _locked(self.folder):
            if not _holds(path, shape):
                temporary = path.with_name(f"{path.name}.tmp")
                out = _memmap(temporary, shape)

                def fill(i: int) -> None:
                    out[i] = resize(decode(self.encoded(i)), size)

                for i, _ in enumerate(_threads(fill, range(shape[0]))):
                    _tell(progress, i + 1, shape[0], f"resizing to {size} pixels")
                out.flush()
                sync(temporary)
                temporary.replace(path)
        return np.load(path, mmap_mode="r")


def prepare(
    spec: str,
    cache_dir: str | None = None,
    max_bad: float = 0.01,
    progress: Progress | None = None,
    on_bad: OnBad | None = None,
) -> Prepared:
    """Reads, checks, decodes and groups the images of `spec`, or finds that done.

    A source whose files' names, sizes, inodes and times are those of an earlier start is not read again.

    Args:
      on_bad: lists the unusable files somewhere and says where; called before too many of them are an error.

    Raises:
      DataError: no usable image, or more than `max_bad` of the files unusable.
      ConfigError: `cache_dir` cannot be written.
    """
    from agegender_jax.data import builder  # needs TFDS; before `_open`, to which its absence would be damage

    cache = _cache(Path(cache_dir).expanduser() if cache_dir else sources.default_cache_dir())

    def folder_of(fingerprint: str) -> Path:
        return cache / f"{fingerprint[:16]}-{builder.VERSION}"

    stamp = fingerprint_cache.path(spec, cache, progress)
    fingerprint = fingerprint_cache.read(stamp)
    found = _find(folder_of(fingerprint), progress) if fingerprint else None
    if found is None:
        items = list(sources.read(spec, str(cache), progress))
        fingerprint = _fingerprint(items)
        found = _find(folder_of(fingerprint), progress, lambda folder: _build(folder, items, spec, progress, on_bad))
        if stamp and not any(map(_failed, items)) and fingerprint_cache.still(stamp, spec, cache):
            fingerprint_cache.write(stamp, fingerprint)
    folder = folder_of(fingerprint)
    records, columns, bad = found
    _check_bad(spec, len(records), bad, max_bad, on_bad)
    age = np.stack([columns.pop("age_first"), columns.pop("age_last")], 1)
    name = sources.source_name(spec)
    return Prepared(name=name, fingerprint=fingerprint, folder=folder, records=records, age=age, bad=bad, **columns)


def _failed(item: sources.Item) -> bool:
    """Whether reading failed, perhaps not for ever."""
    return item.data is None and (item.label is not None or item.reason.startswith("cannot be read"))


def _cache(folder: Path) -> Path:
    """`folder`, made and writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"prepared data cannot be kept there: {error.strerror}",
            str(folder),
            "name a folder that can be written: --config.data.cache_dir=DIR",
        ) from error
    return folder


def _memmap(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new array file uint8 whose room on the disk is taken: writing to pages without room would kill the process."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether the file is a whole array of this shape."""
    try:
        return np.load(path, mmap_mode="r").shape == shape
    except (OSError, EOFError, ValueError):
        return False


def _fingerprint(items: list[sources.Item]) -> str:
    whole = hashlib.sha256()
    for item in items:
        line = f"{hashlib.sha256(item.data or b'').hexdigest()} {item.file}\n"
        if item.label and item.label.age_years < 0:  # a group of ages: from a CSV, not in the file's name
            line += f"{dataclasses.astuple(item.label)}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _find(folder: Path, progress: Progress | None, build: Callable[[Path], None] | None = None):
    """What `_read` gives, after building it if need be; None where it is not there and there is no `build`."""
    with _locked(folder):
        found = _open(folder, progress)
        if found is None and build:
            build(folder)
            found = _read(folder)
        return found


def _open(folder: Path, progress: Progress | None):
    """What `_read` gives, or None where it must be made (again)."""
    if not folder.exists():
        return None
    try:
        return _read(folder)
    except Exception as error:  # array_record and tfds raise many kinds
        _tell(progress, 0, 1, f"prepared data is damaged ({error}); making it again")
        shutil.rmtree(folder)
        return None


def _build(folder: Path, items: list[sources.Item], spec: str, progress: Progress | None, on_bad: OnBad | None) -> None:
    from agegender_jax.data import builder

    bad = [(i.file, i.reason) for i in items if i.reason]
    usable = [i for i in items if not i.reason]
    records = []
    for item, found in zip(usable, _threads(_examine, usable), strict=True):
        if isinstance(found, str):
            bad.append((item.file, found))
        else:
            records.append(found)
        _tell(progress, len(records) + len(bad), len(items), "checking images")
    _check_any(spec, records, bad, on_bad)
    _tell(progress, 0, len(records), "finding near-duplicates")
    hashes = np.stack([r["dhash"] for r in records])
    for record, group in zip(records, splits.groups([r["content"] for r in records], hashes), strict=True):
        record["group"] = int(group)
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _tell(progress, 0, len(records), "writing the prepared images")
    builder.write(unfinished, records)
    _write_index(unfinished / INDEX, builder.read(unfinished))
    replace(unfinished / BAD, to_json(sorted(bad)))
    unfinished.rename(folder)


def _examine(item: sources.Item) -> dict | str:
    """The record of an image, or the reason why it cannot be used."""
    try:
        pixels = decode(item.data)
    except DecodeError as error:
        return error.reason
    raw = pixels.reshape(-1)
    content = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]} ".encode())
    content.update(raw)
    return dataclasses.asdict(item.label) | {
        "file": item.file,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "content": content.hexdigest(),
        "dhash": near_duplicates.dhash(pixels),
        "thumbnail": near_duplicates.thumbnail(pixels),
        "image": item.data,
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
    if share > max_bad:
        some = "; ".join(f"{file}: {reason}" for file, reason in bad[:3])
        listed = f" that {on_bad(bad)} lists" if on_bad else ""
        raise DataError(
            f"{len(bad)} of {good + len(bad)} files are unusable, more than data.max_bad {max_bad:g} ({some})",
            spec,
            f"mend the files{listed}, or accept them with --config.data.max_bad={min(1.0, round(share + 0.005, 2))}",
        )


def _read(folder: Path) -> tuple[Any, dict[str, np.ndarray], list[tuple[str, str]]]:
    """The records of a prepared folder, their columns, and the bad files."""
    from agegender_jax.data import builder

    records = builder.read(folder)
    with np.load(folder / INDEX) as stored:
        columns = {key.removeprefix("column_"): stored[key] for key in stored.files}
    if any(len(values) != len(records) for values in columns.values()):
        raise ValueError(f"{INDEX} does not fit the records")
    return records, columns, [tuple(pair) for pair in json.loads((folder / BAD).read_text())]


def _write_index(path: Path, records: Sequence[dict]) -> None:
    """The records' columns but the image, in their stored order, so that a start need not read every image."""
    rows = [{name: _text(value) for name, value in record.items() if name != "image"} for record in records]
    with open(path, "wb") as file:
        np.savez(file, **{f"column_{name}": np.array([row[name] for row in rows]) for name in rows[0]})


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _threads(work: Callable, items) -> Iterator:
    """Results in order, from one thread a core; Pillow decodes outside the interpreter's lock."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, items)


@contextlib.contextmanager
def _locked(folder: Path):
    with open(folder.with_name(f"{folder.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _tell(progress: Progress | None, done: int, total: int, text: str) -> None:
    if progress:
        progress(done, total, text)
