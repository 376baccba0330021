"""List tar archives strictly, and read them in place or, if compressed, through a spool.

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

_SPOOL_IN_MEMORY = 128 * 2**20  # of a .tar.gz; more goes to a temporary file
_HEADER_BYTES = 2**20  # of an extended header, which contains a path
_PADDING_BLOCKS = 2**16  # of zeros between or after archives: 32 MiB
_EXTENDED_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _StrictTarFile(tarfile.TarFile):
    """Read to the end of the file, so that concatenated archives count as one."""

    ended = False  # whether the last block was of zeros
    padding = 0  # such blocks so far


class _StrictTarInfo(tarfile.TarInfo):
    """Refuse a bad header, which tarfile itself takes for the end, and an archive without an end mark."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) in (0, tarfile.BLOCKSIZE) and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error
        if member.size < 0 or member.type in _EXTENDED_HEADERS and member.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header with a size of {member.size} bytes")
        return member

    @classmethod
    def fromtarfile(cls, tar):
        try:
            member = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            tar.ended, tar.padding = True, tar.padding + 1
            if tar.padding > _PADDING_BLOCKS:
                raise tarfile.ReadError("more than 32 MiB of padding") from None
            raise
        except tarfile.EmptyHeaderError as error:
            if tar.ended:
                raise
            raise tarfile.ReadError("no end mark") from error
        tar.ended = False
        return member


_open = functools.partial(_StrictTarFile.open, tarinfo=_StrictTarInfo, ignore_zeros=True)


def list_tar(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Read the headers; the members are read in place while `stack` is open."""
    tar = stack.enter_context(_open(path, "r:"))
    members = list(tar)
    return _entries(members, lambda member: functools.partial(_read_member, tar, member), spend)


def list_tar_gz(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Read the archive once, in its order; the images and CSVs are in a spool until `stack` closes."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY))
    members, starts = [], {}
    with gzip.open(path) as unpacked, _open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]
            spend(member.size)
            members.append(member)
            if listing.is_wanted(member.name) and _is_file(member) and member.size <= MAX_BYTES:
                starts[id(member)] = spool.tell()
                shutil.copyfileobj(tar.extractfile(member), spool)  # type: ignore[arg-type]
        while rest := unpacked.read(2**20):  # to the checksum at gzip's end
            spend(len(rest))

    def reader(member: tarfile.TarInfo) -> Callable[[], bytes] | None:
        start = starts.get(id(member))
        return None if start is None else functools.partial(_read_spool, spool, start, member.size)

    return _entries(members, reader, spend)


def _entries(
    members: list[tarfile.TarInfo],
    reader: Callable[[tarfile.TarInfo], Callable[[], bytes] | None],
    spend: Callable[[int], None],
) -> list[Entry]:
    """Return the entries of the wanted and left-out members; a link to a file in the archive is read as that file.

    Args:
      reader: returns what reads a regular member; None if it is not in the spool.
      spend: is called with the size of each file that a link leads to.
    """
    files, links = {}, {}
    for member in members:
        path = listing.inner_path(member.name)
        if path is not None and _is_file(member):
            files[path] = member
        elif path is not None and member.issym():
            links[path] = member.linkname
        elif path is not None and member.islnk() and (target := listing.inner_path(member.linkname)) in files:
            files[path] = files[target]
    entries = (
        _entry(member, files, links, reader, spend)
        if listing.is_wanted(member.name)
        else listing.left_out_member(member.name, files, links)
        for member in members
    )
    return [entry for entry in entries if entry]


def _entry(member: tarfile.TarInfo, files: dict, links: dict, reader: Callable, spend: Callable) -> Entry:
    path = listing.inner_path(member.name)
    if path is None:
        return Entry(member.name, reason=listing.OUTSIDE)
    if member.isdir():
        return Entry(path, reason=listing.FOLDER)
    if member.issym() or member.islnk():
        target = listing.link_target(path, links) if member.issym() else listing.inner_path(member.linkname)
        if target is None:
            return Entry(path, reason=listing.LINK_OUTSIDE)
        if target not in files:
            return Entry(path, reason=listing.LINK_TO_NOTHING)
        member = files[target]
        spend(member.size)
    elif not _is_file(member):
        return Entry(path, reason=listing.NOT_REGULAR)
    if member.size > MAX_BYTES:
        return Entry(path, reason=listing.TOO_LARGE)
    read = reader(member)
    return Entry(path, read) if read else Entry(path, reason=listing.LINK)


def _is_file(member: tarfile.TarInfo) -> bool:
    return member.isreg() or member.issparse()


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()  # type: ignore[union-attr]


def _read_spool(spool, start: int, size: int) -> bytes:
    spool.seek(start)
    return spool.read(size)
