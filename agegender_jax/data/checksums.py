"""CRC-32 checksums of prepared files, which detect damage by a disk or a copy before the files are used."""

import json
import zlib
from pathlib import Path

from agegender_jax import files

NAME = "checksums.json"
_CHUNK = 2**22  # bytes


def write(folder: Path) -> None:
    """Write the sizes and checksums of all files of a folder to its checksums.json."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in paths}
    files.replace(folder / NAME, files.to_json(files.seal({"files": entries}), indent=1))


def check(folder: Path) -> None:
    """Raise ValueError, naming the file, unless all files match checksums.json.

    Raises:
      OSError: a file is missing or cannot be read.
    """
    content = json.loads((folder / NAME).read_bytes())
    files.check_seal(content)
    for name, entry in content["files"].items():
        if _entry(folder / name) != entry:
            raise ValueError(f"{name} is not what was written")


def write_of(path: Path) -> None:
    """Write the checksum of one file next to it."""
    files.replace(_beside(path), files.to_json(_entry(path)))


def is_good(path: Path) -> bool:
    """Return whether a file matches the checksum of `write_of`; False if there is none."""
    try:
        return json.loads(_beside(path).read_bytes()) == _entry(path)
    except (OSError, *files.MALFORMED):
        return False


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _entry(path: Path) -> list[int]:
    """Return the size and the CRC-32 of a file."""
    size = checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return [size, checksum]
