"""JAX's compilation cache in the user's cache folder, from which the next start loads compiled programs."""

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import jax

from agegender_jax.data.resolve import cache_folder
from agegender_jax.errors import ConfigError

LIMIT = 2**30  # bytes; the least recently used are removed


def turn_on() -> Path | None:
    """Turn the cache on in `compiled/` of the user's cache folder, for programs of any compile time.

    The user's settings take precedence: JAX_COMPILATION_CACHE_DIR (empty for no cache), JAX_ENABLE_COMPILATION_CACHE,
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS. If the folder cannot be written, there is no cache and no error.

    Returns:
      The folder, or None if the user's settings take precedence or it cannot be written.
    """
    settings: Any = jax.config
    is_set = "JAX_COMPILATION_CACHE_DIR" in os.environ or settings.jax_compilation_cache_dir is not None
    if is_set or not settings.jax_enable_compilation_cache:
        return None
    try:
        folder = cache_folder() / "compiled" / _processor()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # code is loaded from here: nobody else may write
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ConfigError, RuntimeError):  # no home folder
        return None
    trim(folder, LIMIT)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def trim(folder: Path, limit: int) -> None:
    """Remove the least recently used files in `folder` until at most `limit` bytes are left.

    Another process may do the same, or read a file that has been removed; JAX then compiles again.
    """
    with contextlib.suppress(OSError):
        entries = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
        size = sum(status.st_size for _, status in entries)
        for path, status in sorted(entries, key=lambda pair: max(pair[1].st_atime, pair[1].st_mtime)):
            if size <= limit:
                return
            path.unlink(missing_ok=True)
            size -= status.st_size


def _processor() -> str:
    """Return a name for this type of processor, so that its code does not reach others through a shared home folder."""
    description = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        description = "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
        )
    return f"{platform.machine()}-{hashlib.sha256(description.encode()).hexdigest()[:8]}"
