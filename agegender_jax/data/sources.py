"""Read labelled faces from folders, archives, FairFace CSVs, several of these joined, or the face generator.

Every file with the name of an image is an item, with a label or the reason why it cannot be used. Files that a FairFace
CSV lists get its labels, all others the labels in their UTKFace names.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from agegender_jax.data import archives, cache, csv_labels, listing
from agegender_jax.data.cache import Progress
from agegender_jax.data.listing import Entry, State
from agegender_jax.data.resolve import resolve, resolve_existing, source_name, source_names
from agegender_jax.data.utkface import parse_utkface_name
from agegender_jax.errors import DataError
from agegender_jax.labels import Label

__all__ = ["Item", "left_out_of_folders", "left_out_warning", "read", "resolve", "source_name", "states"]


LeftOut = list[tuple[str, str]]  # (path, reason) of parts of a source that are not read


@dataclasses.dataclass(frozen=True)
class Item:
    """An image file of a source: bytes and label, or the reason why it is unusable.

    Attributes:
      file: path inside the source without the folders that all its readable images share, in joined sources after
        `<source name>/`. Bytes that are not UTF-8 are surrogate escapes.
      data: the file's bytes, or None.
      label: None for an unusable file, unless the only problem is that it could not be read, perhaps temporarily.
      reason: None for a usable file.
    """

    file: str
    data: bytes | None
    label: Label | None
    reason: str | None


def read(
    spec: str,
    cache_dir: str | os.PathLike | None = None,
    progress: Progress | None = None,
    on_left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[Item]:
    """Return the images of a source, sorted by `file` and read one by one.

    Args:
      spec: folder, archive (.tar, .tar.gz, .tgz, .zip), FairFace CSV, `synthetic[:N]`, or a comma-separated list of
        these.
      cache_dir: folder of synthetic faces; the user's cache folder if None or "".
      progress: called with (done, total, text) while faces are generated and images are read.
      on_left_out: called for each archive with (path, reason) of its links and archives that are not read.

    Raises:
      DataError: a source is missing; or, while iterating, unreadable, damaged or without images.
      ConfigError: the text is not a source.
    """
    paths = resolve(spec, cache_dir, progress)
    if len(paths) == 1:
        return _read_one(paths[0], progress, on_left_out)
    parts = sorted(zip((f"{name}/" for name in source_names(spec)), paths, strict=True))
    return _read_joined(parts, progress, on_left_out)


def states(
    spec: str, cache_dir: str | os.PathLike | None = None, progress: Progress | None = None
) -> Iterator[tuple[str, State | str]]:
    """Yield the name of each image and CSV with its state, or the reason why it cannot be used; an archive is one file.

    Arguments and errors as in `read`.
    """
    for name, path in zip(source_names(spec), resolve(spec, cache_dir, progress), strict=True):
        where = f"{name}:{os.path.realpath(path)}"
        with _data_errors(path):
            if path.is_dir():
                entries = listing.list_folder(path)
            else:
                entries = [Entry("", state=State.of(path.stat()))]
                entries += csv_labels.read_csv(path)[0] if listing.is_csv(path.name) else []
        yield from ((f"{where}/{entry.path}", entry.state or str(entry.reason)) for entry in entries)


def left_out_of_folders(spec: str) -> LeftOut:
    """Return (path, reason) of links to folders and of archives in the folders of a source, which are not read.

    Those in archives are known only to `read`.
    """
    return [pair for path in resolve_existing(spec) if path.is_dir() for pair in listing.left_out(path)]


def left_out_warning(left_out: LeftOut) -> str:
    """Return a sentence about what is left out of a source, or an empty string."""
    if not left_out:
        return ""
    shown = "; ".join(f"{path}: {reason}" for path, reason in left_out[:3])
    more = f" and {len(left_out) - 3} more" if left_out[3:] else ""
    fix = "to read it too, name it after a comma in the source, unpacked if it is in an archive"
    return f"part of the source is left out: {shown}{more}; {fix}"


def _read_joined(parts: list[tuple[str, Path]], progress: Progress | None, on_left_out: Callable | None):
    for prefix, path in parts:
        for item in _read_one(path, progress, on_left_out):
            yield dataclasses.replace(item, file=prefix + item.file)


def _read_one(path: Path, progress: Progress | None, on_left_out: Callable | None) -> Iterator[Item]:
    with _open(path) as (entries, labels, problem):
        left_out = listing.left_out_entries(entries)
        if on_left_out:
            on_left_out(left_out)
        images = [entry for entry in entries if listing.is_image(entry.path)]
        images += csv_labels.missing_images(labels, {entry.path for entry in images})
        if not images:
            left_out = listing.left_out(path) if path.is_dir() else left_out
            skipped = "; ".join(f"{name} is {reason}" for name, reason in left_out[:3])
            fix = f"name a folder or archive of UTKFace images ({skipped or 'links to folders are not followed'})"
            raise DataError("no images in the data source", str(path), fix)
        shared = _shared_folder([entry.path for entry in images if entry.read])
        named = [(_file(entry, shared), entry) for entry in images]
        for i, (file, entry) in enumerate(sorted(named, key=lambda pair: pair[0])):
            if progress:
                progress(i + 1, len(named), "reading the source")
            yield _item(file, entry, labels, problem)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[list[Entry], dict[str, Label | str], str]]:
    """Yield a source's entries, the labels of its CSVs (path -> label or reason), and why another CSV has none."""
    with contextlib.ExitStack() as stack:
        with _data_errors(path):
            if path.is_dir():
                entries = listing.list_folder(path)
                labels, problem = csv_labels.labels_of_csvs(path, entries)
            elif listing.is_csv(path.name):
                (entries, labels), problem = csv_labels.read_csv(path), ""
            else:
                entries = stack.enter_context(archives.open_archive(path))
                labels, problem = csv_labels.labels_of_csvs(path, entries)
        yield entries, labels, problem


@contextlib.contextmanager
def _data_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a source into a DataError."""
    try:
        yield
    except (OSError, listing.Unreadable) as error:
        if getattr(error, "errno", None) in cache.FULL:
            raise
        raise DataError(f"the data source cannot be read: {error}", str(path), "repair it, or name another") from error


def _shared_folder(paths: list[str]) -> str:
    """Return the folders that all paths have in common, with a slash at the end, or an empty string."""
    shared = os.path.commonprefix([path.split("/")[:-1] for path in paths])
    return "/".join(shared) + "/" if shared else ""


def _file(entry: Entry, shared: str) -> str:
    return entry.path if entry.reason == listing.OUTSIDE else entry.path.removeprefix(shared)


def _item(file: str, entry: Entry, labels: dict[str, Label | str], problem: str) -> Item:
    if entry.read is None:
        return Item(file, None, None, entry.reason)
    label = labels.get(entry.path)
    if label is None:
        label = parse_utkface_name(entry.path.rpartition("/")[2])
        if isinstance(label, str) and problem:
            label = f"{label}, and {problem}"
    if isinstance(label, str):
        return Item(file, None, None, label)
    try:
        return Item(file, entry.read(), label, None)
    except listing.Unreadable as error:
        return Item(file, None, label, str(error))
