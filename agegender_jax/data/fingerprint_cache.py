"""Recognise an unchanged source by the metadata of its files, without reading them again."""

import contextlib
import hashlib
import json
import operator
import re
import time
from pathlib import Path

from agegender_jax.data import sources
from agegender_jax.data.cache import Progress
from agegender_jax.data.sources import LeftOut
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.files import MALFORMED, replace, to_json

RULES = 2  # increase it when the rules for listing files, for labels or for the fingerprint change
SETTLED_S = 2.0  # file systems' clocks are coarse: a second change soon after the first may leave the same time


def path(spec: str, cache: Path, progress: Progress | None = None) -> Path | None:
    """Return the path in `cache` for the fingerprint of the source in its current state, whether it exists or not.

    Return None if any file of the source changed less than SETTLED_S ago.

    Raises:
      DataError, ConfigError: as `sources.read`.
    """
    stamp, settled = hashlib.sha256(f"{RULES}".encode()), (time.time() - SETTLED_S) * 1e9
    for name, state in sorted(sources.states(spec, cache, progress), key=operator.itemgetter(0)):
        if not isinstance(state, str) and state.changed_ns > settled:
            return None
        stamp.update(f"\n{name!r} {state}".encode())
    return cache / f"{stamp.hexdigest()[:32]}.stamp"


def still(stamp: Path, spec: str, cache: Path) -> bool:
    """Return whether the source is still in the state of `stamp`."""
    try:
        return path(spec, cache) == stamp
    except (ConfigError, DataError):
        return False


def read(stamp: Path | None) -> tuple[str, LeftOut]:
    """Return the fingerprint in the file, "" if there is none, and what the source's archives leave out."""
    try:
        content = json.loads(stamp.read_bytes()) if stamp else {}
        left_out = [(str(path), str(reason)) for path, reason in content["left_out"]]
        fingerprint = re.fullmatch("[0-9a-f]{64}", content["fingerprint"])
    except (OSError, *MALFORMED):
        return "", []
    return (fingerprint[0], left_out) if fingerprint else ("", [])


def write(stamp: Path | None, fingerprint: str, left_out: LeftOut) -> None:
    """Write what `read` returns. If that fails, the next start reads the source again."""
    with contextlib.suppress(OSError):
        if stamp:
            replace(stamp, to_json({"fingerprint": fingerprint, "left_out": left_out}))
