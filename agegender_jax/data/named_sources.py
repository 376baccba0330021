"""The sources and cache folders that this user has named; a config.json from elsewhere may use only these."""

import contextlib
import os

from agegender_jax import files
from agegender_jax.config import default
from agegender_jax.data import resolve
from agegender_jax.errors import ConfigError

NAME = "named_sources.txt"  # in the user's cache folder: an escaped path a line
MOST = 1000  # lines


def remember(spec: str, cache_dir: str | None = None) -> None:
    """Remember that the user has named a source and a cache folder. If this fails, the user is asked again later."""
    with contextlib.suppress(OSError, ConfigError):
        named, new = _read(), _lines(spec) + ([_line(cache_dir)] if cache_dir else [])
        if any(line not in named for line in new):
            lines = list(dict.fromkeys([*named, *new]))
            path = resolve.cache_folder() / NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(path, "".join(f"{line}\n" for line in lines[-MOST:]))


def is_source(spec: str) -> bool:
    """Return whether the user has named every part of a source; the default and `synthetic` count as named."""
    if spec in (default().data.source, resolve.SYNTHETIC):
        return True
    with contextlib.suppress(OSError, ConfigError):
        return set(_lines(spec)) <= set(_read())
    return False


def is_cache(cache_dir: str) -> bool:
    """Return whether the user has named a cache folder."""
    with contextlib.suppress(OSError, ConfigError):
        return _line(cache_dir) in _read()
    return False


def _read() -> list[str]:
    try:
        return (resolve.cache_folder() / NAME).read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def _lines(spec: str) -> list[str]:
    return [part if resolve.is_synthetic(part) else _line(part) for part in resolve.parts(spec)]


def _line(path: str) -> str:
    """Return the absolute path as one line of ASCII."""
    return ascii(os.path.abspath(files.expand(path, "data.source")))
