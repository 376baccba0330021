"""A source recognised by its files' names, sizes and times, so that a start need not read them all again."""

import contextlib
import hashlib
import re
import time
from pathlib import Path

from agegender_jax.data import sources
from agegender_jax.data.places import Progress
from agegender_jax.files import replace

SETTLED_S = 2.0  # file systems' clocks are coarse: a second change soon after the first may leave the same time


def note(spec: str, cache: Path, version: str, progress: Progress | None = None) -> Path | None:
    """Where in `cache` the fingerprint of the source as it stands now is noted, whether there is such a note or not.

    None while any of its files changed less than SETTLED_S ago. `version`: of what gives the fingerprint.

    Raises:
      DataError, ConfigError: as `sources.read`.
    """
    stamp, settled = hashlib.sha256(version.encode()), (time.time() - SETTLED_S) * 1e9
    for name, state in sources.states(spec, cache, progress):
        if not isinstance(state, str) and state.changed_ns > settled:
            return None
        stamp.update(f"\n{name!r} {state}".encode("utf-8", "surrogateescape"))
    return cache / f"{stamp.hexdigest()[:32]}.seen"


def read(path: Path | None) -> str | None:
    """The noted fingerprint, or None."""
    try:
        text = path.read_text() if path else ""
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch("[0-9a-f]{64}", text) else None


def write(path: Path | None, fingerprint: str) -> None:
    """Notes the fingerprint, where that can be done: without the note the next start reads the files again."""
    with contextlib.suppress(OSError):
        if path and read(path) != fingerprint:
            replace(path, fingerprint)
