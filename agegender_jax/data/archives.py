"""List and read archives without unpacking them.

Archives are not trusted. Links and paths that lead outside and devices become entries with a reason, a member is read
up to MAX_BYTES, and an archive that claims to unpack to far more than its own size is refused.
"""

import contextlib
import dataclasses
import functools
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from agegender_jax.data import cache, listing, tars, zips
from agegender_jax.data.listing import Entry, Unreadable
from agegender_jax.errors import DataError

SUFFIXES = listing.ARCHIVES

_GZIP_MAGIC = b"\x1f\x8b"
_MEMBER_BYTES = 4096  # charged for each member, so that their number is bounded too
_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError and RecursionError too
    ValueError,
)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[list[Entry]]:
    """Yield the images and CSVs of an archive in order; they can be read while the context lasts.

    Links and archives in it that are not read are entries too, see `listing.left_out_entries`.

    Raises:
      DataError: the file is not an archive, is damaged or cut short, or unpacks to far more than its size.
    """
    with contextlib.ExitStack() as stack:
        spend = _budget(path)
        try:
            if path.name.lower().endswith(".zip"):
                listed = zips.list_zip(path, stack, spend)
            elif _is_gzip(path):
                listed = tars.list_tar_gz(path, stack, spend)
            else:
                listed = tars.list_tar(path, stack, spend)
        except _ERRORS as error:
            if number := getattr(error, "errno", None):  # of the system, not of the archive
                if number in cache.FULL:
                    raise
                raise DataError(
                    f"the archive cannot be read: {os.strerror(number)}",
                    str(path),
                    "repair it, or name another source",
                ) from error
            raise DataError(
                f"the archive is damaged or cut short: {_line(error)}", str(path), "copy or download it again"
            ) from error
        yield [
            dataclasses.replace(entry, read=functools.partial(_read, entry.read)) if entry.read else entry
            for entry in _without_repeats(listed)
        ]


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def _budget(path: Path) -> Callable[[int], None]:
    """Return a function to call with the claimed size of each member; it raises DataError above the limit."""
    limit = max(2**30, 100 * path.stat().st_size)
    total = 0

    def spend(size: int):
        nonlocal total
        total += size + _MEMBER_BYTES
        if total > limit:
            raise DataError(
                f"the archive claims to unpack to more than {limit >> 20} MiB",
                str(path),
                "if that is right, unpack it and name the folder instead",
            )

    return spend


def _without_repeats(listed: list[Entry]) -> list[Entry]:
    """Return the entries; among equal names all but the last are marked as replaced, as when unpacking."""
    last = {entry.path: entry for entry in listed if entry.read}
    return [
        Entry(entry.path, reason="replaced by a later member of the same name")
        if entry.read and last[entry.path] is not entry
        else entry
        for entry in listed
    ]


def _read(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except _ERRORS as error:
        raise Unreadable(f"cannot be read from the archive: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
