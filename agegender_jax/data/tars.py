"""Tar archives listed strictly, and read in place or, compressed, through a spool.

Errors of `tarfile` and `gzip` pass through.
"""

import contextlib
import functools
import gzip
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from agegender_jax.data import listing
from agegender_jax.data.listing import MAX_BYTES, Entry

_SPOOL_IN_MEMORY = 128 * 2**20  # beyond this a .tar.gz's images wait in a temporary file
_HEADER_BYTES = 2**20  # of one extended header: it holds a path, never megabytes
_EXTENDED_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _StrictTarInfo(tarfile.TarInfo):
    """Ends an archive at its end mark only; tarfile itself takes any bad header for the end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error
        if member.size < 0 or member.type in _EXTENDED_HEADERS and member.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header with a size of {member.size} bytes")
        return member


def list_tar(path: Path, stack: contextlib.ExitStack) -> list[Entry]:
    """Reads the headers; the members are read from their places while `stack` is open."""
    tar = stack.enter_context(tarfile.open(path, "r:", tarinfo=_StrictTarInfo))
    return [
        _entry(member, functools.partial(_read_member, tar, member)) for member in tar if listing.is_wanted(member.name)
    ]


def list_tar_gz(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """One pass in the archive's order; what may be read later waits in a spool until `stack` closes."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY))
    listed = []
    with (
        gzip.open(path) as unpacked,
        tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_StrictTarInfo) as tar,
    ):
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]
            spend(member.size)
            if not listing.is_wanted(member.name):
                continue
            entry = _entry(member, functools.partial(_read_spool, spool, spool.tell(), member.size))
            if entry.read:
                shutil.copyfileobj(tar.extractfile(member), spool)  # type: ignore[arg-type]
            listed.append(entry)
        while rest := unpacked.read(2**20):  # to the checksum at gzip's end
            spend(len(rest))
    return listed


def _entry(member: tarfile.TarInfo, read: Callable[[], bytes]) -> Entry:
    path = listing.inner_path(member.name)
    if path is None:
        return Entry(member.name, reason=listing.OUTSIDE)
    if member.issym() or member.islnk():
        return Entry(path, reason=listing.LINK)
    if member.isdir():
        return Entry(path, reason=listing.FOLDER)
    if not member.isreg() or member.issparse():
        return Entry(path, reason=listing.NOT_REGULAR)
    if member.size > MAX_BYTES:
        return Entry(path, reason=listing.TOO_LARGE)
    return Entry(path, read)


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()  # type: ignore[union-attr]


def _read_spool(spool, start: int, size: int) -> bytes:
    spool.seek(start)
    return spool.read(size)
