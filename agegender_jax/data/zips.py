"""List and read zip archives in place. Errors of `zipfile` pass through."""

import contextlib
import functools
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from agegender_jax.data import listing
from agegender_jax.data.listing import MAX_BYTES, Entry, Unreadable

_LINK_BYTES = 4096  # of the text of a symbolic link
_ENCRYPTED = 0x1  # general purpose bit flag, APPNOTE.TXT 4.4.4


def list_zip(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Read the directory; the members are read in place while `stack` is open."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    _check_start(path, archive)
    listed = []
    named = [(info.filename.replace("\\", "/"), info) for info in archive.infolist()]  # some write as Windows does
    inside = [(inner, info) for name, info in named if (inner := listing.inner_path(name)) is not None]
    files = {inner: info for inner, info in inside if _kind(info) in (0, stat.S_IFREG)}
    links = {
        inner: _read_member(archive, info).decode("utf-8", "surrogateescape")
        for inner, info in inside
        if _kind(info) == stat.S_IFLNK and info.file_size <= _LINK_BYTES and not info.flag_bits & _ENCRYPTED
    }
    for name, info in named:
        if listing.is_wanted(name.rstrip("/")):
            entry, size = _entry(archive, info, name, files, links)
            spend(size)
            listed.append(entry)
        elif left_out := listing.left_out_member(name, files, links):
            listed.append(left_out)
    return listed


def _check_start(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile if another archive comes before this one: zipfile reads only the last one."""
    first = min((info.header_offset for info in archive.infolist()), default=0)
    with path.open("rb") as file:
        if first and file.read(4) == b"PK\3\4":
            raise zipfile.BadZipFile(f"{first} bytes of another archive before this one")


def _kind(info: zipfile.ZipInfo) -> int:
    """Return the type bits of the member's mode, 0 if it has none."""
    return stat.S_IFMT(info.external_attr >> 16)


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, files: dict, links: dict) -> tuple[Entry, int]:
    """Return the entry of a member, and the number of bytes that reading it takes."""
    path = listing.inner_path(name)
    if path is None:
        return Entry(name, reason=listing.OUTSIDE), 0
    if name.endswith("/"):
        return Entry(path, reason=listing.FOLDER), 0
    if path in links:
        target = listing.link_target(path, links)
        if target is None or target not in files:
            return Entry(path, reason=listing.LINK_OUTSIDE if target is None else listing.LINK_TO_NOTHING), 0
        info = files[target]
    elif _kind(info) not in (0, stat.S_IFREG):
        return Entry(path, reason=listing.NOT_REGULAR), 0
    if info.flag_bits & _ENCRYPTED:
        return Entry(path, reason="encrypted"), 0
    if info.file_size > MAX_BYTES:
        return Entry(path, reason=listing.TOO_LARGE), 0
    return Entry(path, functools.partial(_read_member, archive, info)), info.file_size


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        data = file.read(min(info.file_size, MAX_BYTES) + 1)
    if len(data) != info.file_size:
        raise Unreadable("cut short in the archive")
    return data
