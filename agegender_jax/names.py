"""Unique names, and names of files."""

import hashlib
import re
from collections.abc import Callable
from pathlib import PurePosixPath


def unique(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return `name`, or the first of `name`-2, `name`-3 and so on that is not taken."""
    count, result = 1, name
    while is_taken(result):
        count += 1
        result = f"{name}-{count}"
    return result


def file_name(name: str) -> str:
    """Return a short ASCII file name for the picture `name`: its stem and a digest of the whole name.

    Equal stems in different folders give different names.
    """
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem, flags=re.ASCII)[:80].strip(".") or "picture"
    return f"{stem}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
