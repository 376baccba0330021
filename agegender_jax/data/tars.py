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
_HEADER_BYTES = 2**20  # of all headers of one member; they contain paths and the maps of sparse files
_HEADER_CHARGE = 16  # for each byte of extended headers: long names take time and memory
_FIELD_CHARGE = 512  # for each field of a PAX header and each part of a sparse file, which tarfile keeps
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


class _Headers:
    """The file of an archive while the headers of one member are read, of which it gives up to _HEADER_BYTES."""

    def __init__(self, file):
        self._file, self._left = file, _HEADER_BYTES
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"more than {_HEADER_BYTES >> 20} MiB of headers for one member")
        return self._file.read(size)


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
        """Return the next member; tarfile calls this again for the header that follows an extended one."""
        file = tar.fileobj
        if not isinstance(file, _Headers):
            tar.fileobj = _Headers(file)
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
        except (tarfile.HeaderError, LookupError) as error:  # LookupError: the map of a sparse file is cut short
            raise tarfile.ReadError(f"a bad header: {error}") from error
        finally:
            tar.fileobj = file
        if member.size < 0:  # by an extended header, or of a sparse file
            raise tarfile.ReadError(f"a header with a size of {member.size} bytes")
        tar.ended = False
        return member


_open = functools.partial(_StrictTarFile.open, tarinfo=_StrictTarInfo, ignore_zeros=True)


def list_tar(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Read the headers; the members are read in place while `stack` is open."""
    tar = stack.enter_context(_open(path, "r:"))
    members = []
    for member in tar:
        spend(_unpacked_bytes(member))
        members.append(member)
    return _entries(members, lambda member: functools.partial(_read_member, tar, member), spend)


def list_tar_gz(path: Path, stack: contextlib.ExitStack, spend: Callable[[int], None]) -> list[Entry]:
    """Read the archive once, in its order; the images and CSVs are in a spool until `stack` closes."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY))
    members, starts = [], {}
    with gzip.open(path) as unpacked, _open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]
            spend(_unpacked_bytes(member))
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
    files: dict[str, tarfile.TarInfo] = {}
    linked: dict[int, tarfile.TarInfo | None] = {}  # by the id of a hard link: the file of that name when it was made
    links: dict[str, str] = {}
    for member in members:
        path = listing.inner_path(member.name)
        if path is not None and _is_file(member):
            files[path] = member
        elif path is not None and member.issym():
            links[path] = member.linkname
        elif path is not None and member.islnk():
            target = listing.inner_path(member.linkname)
            linked[id(member)] = file = files.get(target) if target is not None else None
            if file:
                files[path] = file
    entries = (
        _entry(member, files, linked, links, reader, spend)
        if listing.is_wanted(member.name)
        else listing.left_out_member(member.name, files, links)
        for member in members
    )
    return [entry for entry in entries if entry]


def _entry(member: tarfile.TarInfo, files: dict, linked: dict, links: dict, reader: Callable, spend: Callable) -> Entry:
    path = listing.inner_path(member.name)
    if path is None:
        return Entry(member.name, reason=listing.OUTSIDE)
    if member.isdir():
        return Entry(path, reason=listing.FOLDER)
    if member.issym() or member.islnk():
        target = listing.link_target(path, links) if member.issym() else listing.inner_path(member.linkname)
        if target is None:
            return Entry(path, reason=listing.LINK_OUTSIDE)
        file = files.get(target) if member.issym() else linked[id(member)]
        if file is None:
            return Entry(path, reason=listing.LINK_TO_NOTHING)
        member = file
        spend(member.size)
    elif not _is_file(member):
        return Entry(path, reason=listing.NOT_REGULAR)
    if member.size > MAX_BYTES:
        return Entry(path, reason=listing.TOO_LARGE)
    read = reader(member)
    return Entry(path, read) if read else Entry(path, reason=listing.LINK)


def _unpacked_bytes(member: tarfile.TarInfo) -> int:
    """Return the size of a member, and a charge for the time and memory that its extended headers take."""
    headers = member.offset_data - member.offset - tarfile.BLOCKSIZE
    fields = len(member.pax_headers) + len(member.sparse or ())
    return member.size + _HEADER_CHARGE * headers + _FIELD_CHARGE * fields


def _is_file(member: tarfile.TarInfo) -> bool:
    return member.isreg()  # with sparse files; a folder or link that claims to be sparse is none


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()  # type: ignore[union-attr]


def _read_spool(spool, start: int, size: int) -> bytes:
    spool.seek(start)
    return spool.read(size)
