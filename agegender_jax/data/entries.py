"""What a source holds, as names and ways to read them; and folders listed so."""

import dataclasses
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_BYTES = 64 * 2**20  # of one file: far above any portrait, far below what hurts
TOO_LARGE = f"larger than {MAX_BYTES // 2**20} MiB"
LINK = "a link, not followed"
NOT_REGULAR = "not a regular file"
FOLDER = "a folder"
OUTSIDE = "its path leads outside the source"

_IMAGE = re.compile(
    r".*\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|heic|avif) *"
    r"|[^.]*\d(jpe?g|png)",  # UTKFace's `55_0_0_20170116232725357jpg`
    re.IGNORECASE | re.DOTALL,
)


class Unreadable(Exception):
    """A file that cannot be read; the text is the reason in a few words."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image or CSV of a source.

    Attributes:
      path: path inside the source with `/` between the parts (as it stands, if it leads outside).
      read: returns the bytes (at most MAX_BYTES) or raises Unreadable; None where there is a reason.
      reason: why it cannot be read, or None.
    """

    path: str
    read: Callable[[], bytes] | None = None
    reason: str | None = None


def is_image(path: str) -> bool:
    """Whether the name's suffix is an image's, readable by us or not."""
    return _IMAGE.fullmatch(path.rpartition("/")[2]) is not None


def is_csv(path: str) -> bool:
    return path.lower().endswith(".csv")


def is_hidden(path: str) -> bool:
    """Whether a part of the path is hidden or macOS's `__MACOSX`."""
    parts = path.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


def is_wanted(path: str) -> bool:
    return (is_image(path) or is_csv(path)) and not is_hidden(path)


def inner_path(name: str) -> str | None:
    """`name` without empty and `.` parts; None where it is absolute or climbs with `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
        return None
    return "/".join(parts)


def list_folder(root: Path) -> list[Entry]:
    """The images and CSVs below a folder; links to folders are not entered.

    Raises:
      OSError: a folder in it cannot be listed.
    """
    return list(_walk(root))


def file_entry(root: Path, path: str) -> Entry:
    """The file at `path` below `root`: regular, not too large, and really below it."""
    full = root / path
    try:
        status = full.stat()
        real = os.path.realpath(full)
    except FileNotFoundError:
        return Entry(path, reason="a link to nothing" if full.is_symlink() else "no such file")
    except (OSError, ValueError) as error:
        return Entry(path, reason=f"cannot be read: {getattr(error, 'strerror', error)}")
    if not real.startswith(os.path.join(os.path.realpath(root), "")):
        return Entry(path, reason="a link that leads outside the source")
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, reason=FOLDER)
    if not stat.S_ISREG(status.st_mode):
        return Entry(path, reason=NOT_REGULAR)
    if status.st_size > MAX_BYTES:
        return Entry(path, reason=TOO_LARGE)
    return Entry(path, functools.partial(_read_file, full))


def _walk(root: Path) -> Iterator[Entry]:
    def fail(error: OSError):
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in [*files, *folders]:
            if is_wanted(name):
                yield file_entry(root, os.path.relpath(os.path.join(folder, name), root))


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise Unreadable(TOO_LARGE)
    return data
