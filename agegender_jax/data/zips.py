"""Zip archives listed and read in place. Errors of `zipfile` pass through."""

import contextlib
import functools
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from agegender_jax.data import listing
from agegender_jax.data.listing import MAX_BYTES, Entry, Unreadable

_ENCRYPTED = 0x1  # general purpose bit flag, APPNOTE.TXT 4.4.4


def list_zip(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Reads the directory; the members are read from their places while `stack` is open."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    listed = []
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # as some Windows programs write it
        if listing.is_wanted(name.rstrip("/")):
            entry = _entry(archive, info, name)
            spend(info.file_size if entry.read else 0)
            listed.append(entry)
    return listed


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Entry:
    path = listing.inner_path(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if path is None:
        return Entry(name, reason=listing.OUTSIDE)
    if name.endswith("/"):
        return Entry(path, reason=listing.FOLDER)
    if kind == stat.S_IFLNK:
        return Entry(path, reason=listing.LINK)
    if kind not in (0, stat.S_IFREG):
        return Entry(path, reason=listing.NOT_REGULAR)
    if info.flag_bits & _ENCRYPTED:
        return Entry(path, reason="encrypted")
    if info.file_size > MAX_BYTES:
        return Entry(path, reason=listing.TOO_LARGE)
    return Entry(path, functools.partial(_read_member, archive, info))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        data = file.read(min(info.file_size, MAX_BYTES) + 1)
    if len(data) != info.file_size:
        raise Unreadable("cut short in the archive")
    return data
