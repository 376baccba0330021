"""List the images and CSVs of a folder, each with the function that reads it."""

import dataclasses
import functools
import os
import posixpath
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 64 * 2**20  # of one file: more than any portrait needs
TOO_LARGE = f"larger than {MAX_BYTES // 2**20} MiB"
LINK = "a link, not followed"
LINK_OUTSIDE = "a link that leads outside the source"
LINK_TO_NOTHING = "a link to nothing"
MAX_LINKS = 40  # one after the other, as in Linux
NOT_REGULAR = "not a regular file"
FOLDER = "a folder"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
OUTSIDE = "its path leads outside the source"

_IMAGE = re.compile(
    r".*\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|heic|avif) *"
    r"|[^.]*\d(jpe?g|png)",  # UTKFace's `55_0_0_20170116232725357jpg`
    re.IGNORECASE | re.DOTALL,
)


class Unreadable(Exception):
    """The file cannot be read; the text states the reason in a few words."""


class State(NamedTuple):
    """Metadata that changes when a file changes. Times in ns: mtime and ctime."""

    size: int
    inode: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "State":
        return cls(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image or CSV of a source, or a part of an archive that is left out.

    Attributes:
      path: path inside the source with `/` between its parts; unchanged if it leads outside.
      read: returns the bytes (at most MAX_BYTES) or raises Unreadable; None if there is a reason.
      reason: why it cannot be read, or None.
      state: of a regular file on disk; None in archives.
    """

    path: str
    read: Callable[[], bytes] | None = None
    reason: str | None = None
    state: State | None = None


def is_image(path: str) -> bool:
    """Return whether the name has an image's suffix, of a supported format or not."""
    return _IMAGE.fullmatch(path.rpartition("/")[2]) is not None


def is_csv(path: str) -> bool:
    return path.lower().endswith(".csv")


def is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVES)


def is_hidden(path: str) -> bool:
    """Return whether a part of the path is hidden or is macOS's `__MACOSX`."""
    parts = path.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


def is_wanted(path: str) -> bool:
    return (is_image(path) or is_csv(path)) and not is_hidden(path)


def inner_path(name: str) -> str | None:
    """Return `name` without empty and `.` parts; None if it is absolute or contains `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
        return None
    return "/".join(parts)


def link_target(path: str, links: dict[str, str]) -> str | None:
    """Return the path to which the symbolic links of an archive lead from `path`; None if it leads outside.

    Args:
      links: path -> text of each symbolic link.
    """
    for _ in range(MAX_LINKS):
        parts = path.split("/")
        prefixes = ("/".join(parts[: i + 1]) for i in range(len(parts)))
        link = next((prefix for prefix in prefixes if prefix in links), None)
        if link is None:
            return path
        if links[link].startswith("/"):
            return None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(link), links[link], path[len(link) + 1 :]))
        if path.startswith("../") or path == "..":
            return None
    return path


def left_out(root: Path) -> list[tuple[str, str]]:
    """Return (path, reason) of everything in a folder that may contain images but is not read, sorted.

    These are links to folders, and archives.
    """
    listed, real = [], os.path.realpath(root)
    for folder, folders, files in os.walk(real):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in folders:
            full = os.path.join(folder, name)
            if os.path.islink(full) and not is_image(name):
                listed.append(
                    (os.path.relpath(full, real), f"a link to the folder {os.path.realpath(full)}, not followed")
                )
        for name in files:
            if is_archive(name) and not is_hidden(name):
                listed.append((os.path.relpath(os.path.join(folder, name), real), "an archive in a folder, not read"))
    return sorted(listed)


def left_out_member(name: str, files: Collection[str], links: Mapping[str, str]) -> Entry | None:
    """Return the entry of an archive's member that may contain images but is not read; None for another member.

    These are archives, and symbolic links that lead neither to a file nor to another link.

    Args:
      name: of a member that is not wanted, with a slash at the end if a zip says that it is a folder.
      files: paths of the regular files. links: path -> text of each symbolic link.
    """
    path = inner_path(name)
    if is_hidden(name) or name.endswith("/"):
        return None
    if path is not None and path in links:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
        is_read = target in files or target in links
        return None if is_read else Entry(path, reason=f"a link to {links[path]}, not followed")
    if is_archive(name) and (path is None or path in files):
        return Entry(path or name, reason="an archive in an archive, not read")
    return None


def left_out_entries(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Return (path, reason) of the entries of `left_out_member`, sorted."""
    chosen = (entry for entry in entries if not is_image(entry.path) and not is_csv(entry.path))
    return sorted({(entry.path, str(entry.reason)) for entry in chosen})


def list_folder(root: Path, skip_unreadable: bool = False) -> list[Entry]:
    """Return the images and CSVs in a folder and its subfolders. Links to folders are not followed.

    Args:
      skip_unreadable: a subfolder that cannot be listed is an entry with the reason, and no error.

    Raises:
      OSError: a folder cannot be listed.
    """

    def fail(error: OSError):
        path = os.path.relpath(error.filename, real)
        if not skip_unreadable or path == ".":
            raise error
        listed.append(Entry(path, reason=f"a folder that cannot be read: {error.strerror}"))

    listed: list[Entry] = []
    real = os.path.realpath(root)
    for folder, folders, files in os.walk(real, onerror=fail):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in filter(is_wanted, [*files, *folders]):
            full = os.path.join(folder, name)
            listed.append(_entry(os.path.relpath(full, real), full, real if os.path.islink(full) else None))
    return listed


def file_entry(root: Path, path: str) -> Entry:
    """Return the entry of the file at `path` in `root`; it must be a regular file inside `root` and not too large."""
    (entry,) = file_entries(root, [path])
    return entry


def file_entries(root: Path, paths: Iterable[str]) -> list[Entry]:
    """Return `file_entry` of each path."""
    real = os.path.realpath(root)
    return [_entry(path, os.path.join(root, path), real) for path in paths]


def check_regular(full: str, root: str | None) -> os.stat_result:
    """Return the metadata of a regular file; raise Unreadable if `full` is something else or leads outside.

    Args:
      root: resolved folder that must contain the file; None if the path has no links.
    """
    try:
        status = os.stat(full)
        outside = root is not None and not os.path.realpath(full).startswith(os.path.join(root, ""))
    except FileNotFoundError:
        raise Unreadable(LINK_TO_NOTHING if os.path.islink(full) else "no such file") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {getattr(error, 'strerror', error)}") from error
    if outside:
        raise Unreadable(LINK_OUTSIDE)
    if stat.S_ISDIR(status.st_mode):
        raise Unreadable(FOLDER)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(NOT_REGULAR)
    return status


def _entry(path: str, full: str, root: str | None) -> Entry:
    """Return the entry of the file at `full`; see `check_regular`."""
    try:
        status = check_regular(full, root)
    except Unreadable as error:
        return Entry(path, reason=str(error))
    if status.st_size > MAX_BYTES:
        return Entry(path, reason=TOO_LARGE)
    return Entry(path, functools.partial(_read_file, full), state=State.of(status))


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)  # read() takes that much memory
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise Unreadable(TOO_LARGE)
    return data
