"""Paths that users type, files that are replaced atomically, and JSON without NaN, sealed by a digest."""

import errno
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import IO, Any

from agegender_jax.errors import ConfigError

DIGEST = "digest"  # field of sealed JSON
# raised where JSON or a table has another content or impossible numbers
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of a file system without
TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.tmp")  # see `replace`
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def split_names(text: str) -> list[str]:
    """Return the paths and names that a text lists, separated by commas; an existing path is one, whatever is in it."""
    return [text] if os.path.exists(text) else [part.strip() for part in text.split(",")]


def expand(path: str | os.PathLike, where: str) -> Path:
    """Return a path that a user typed, with a leading `~` or `~user` replaced by the home folder.

    Args:
      where: the flag or field that names the path, for the error.

    Raises:
      ConfigError: the path is empty or a URL such as s3://bucket/name, or the home folder is not known.
    """
    if not os.fspath(path):
        raise ConfigError("an empty path is named", where, "name a file or a folder; . is the current folder")
    if URL.match(os.fspath(path)):
        raise ConfigError(
            f"{os.fspath(path)} is a URL; only paths of this machine can be used",
            where,
            "copy the files to a local disk, or mount the storage, and give that path",
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"the home folder of {Path(path).parts[0]} is not known", f"{where}={path}", "write the whole path"
        ) from error


def existing(path: str | os.PathLike, where: str) -> Path:
    """Return a path that a user typed: as it is written if something is so called, such as ~photo.jpg, else `expand`ed.

    Raises:
      ConfigError: see `expand`.
    """
    if os.fspath(path).startswith("~") and os.path.lexists(path):
        return Path(path).absolute()  # which `expand` and `resolve` leave as it is
    return expand(path, where)


def resolve(path: str | os.PathLike, where: str) -> Path:
    """Return a path that a user typed, see `expand`, absolute and without links.

    Raises:
      ConfigError: see `expand`; or its links lead in a circle.
    """
    resolved = Path(os.path.realpath(expand(path, where)))
    try:
        resolved.stat()  # a link is left only where links lead in a circle
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError("links lead in a circle", f"{where}={path}", "name another path") from error
    return resolved


def replace(path: Path, data: str | bytes) -> None:
    """Write `path` atomically: at any moment, even after a power cut, it has either the old or the new content.

    Text is encoded as UTF-8; surrogates become the undecodable bytes of file names that they stand for.
    """
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            publish(file, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(file: IO, path: Path) -> None:
    """Give an open file that is complete the name `path`, in its folder; a power cut loses nothing."""
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def printable(text: str) -> str:
    """Return text with control characters and undecodable bytes escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


_AS_THEY_ARE = frozenset((str, int, bool, type(None)))


def to_json(value: Any, indent: int | None = None) -> str:
    """Return ASCII JSON of dicts, sequences, NumPy and JAX scalars and arrays; NaN and infinity become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def seal(fields: dict[str, Any]) -> dict[str, Any]:
    """Return JSON fields with an additional SHA-256 of the others, by which `check_seal` detects damage."""
    return {**fields, DIGEST: _digest(fields)}


def check_seal(fields: dict[str, Any]) -> None:
    """Raise ValueError if sealed fields do not match their digest; fields of older files, without a digest, pass."""
    if DIGEST in fields and fields[DIGEST] != _digest(fields):
        raise ValueError("its digest is of another content")


def _digest(fields: dict[str, Any]) -> str:
    others = {name: value for name, value in fields.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(_plain(others), sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:  # most values, at a fifth of the cost of what follows
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value
