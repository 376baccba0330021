"""The copy of a source in one temporary file, for which each image is read once, and the fingerprint of its files."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, BinaryIO

from agegender_jax.data import sources


@dataclasses.dataclass(frozen=True)
class CopiedFile:
    """An image file of a source, its bytes at `start` of the copy.

    Attributes:
      failed: whether reading it failed, perhaps only temporarily.
    """

    file: str
    label: Any
    reason: str | None
    digest: bytes
    start: int
    size: int
    failed: bool


def append(item: sources.Item, copy: BinaryIO) -> CopiedFile:
    """Append an item's bytes to the copy."""
    data = item.data or b""
    start = copy.tell()
    copy.write(data)
    failed = item.data is None and (item.label is not None or str(item.reason).startswith("cannot be read"))
    return CopiedFile(item.file, item.label, item.reason, hashlib.sha256(data).digest(), start, len(data), failed)


def fingerprint(files: Iterable[CopiedFile]) -> str:
    """Return the SHA-256, in hex, of the names and bytes of the files and the age groups that CSVs give them.

    A file without a label has no bytes here, and the reason why it has none does not change the fingerprint.
    """
    whole = hashlib.sha256()
    for file in files:
        line = f"{file.digest.hex()} {file.file}\n"
        if file.label and file.label.age_years < 0:  # a group of ages: from a CSV, not in the file's name
            line += f"{dataclasses.astuple(file.label)}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
