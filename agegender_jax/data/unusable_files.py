"""The files of a source that cannot be used: their list in the cache, and the errors about them."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from agegender_jax import files
from agegender_jax.data import fairface
from agegender_jax.errors import DataError

Unusable = list[tuple[str, str]]  # (file, reason)
OnBad = Callable[[Unusable], str]
MOST_ALLOWED = 0.2  # share of unusable files up to which the error suggests a larger data.max_bad


def read(stamp: Path | None) -> Unusable | None:
    """Return the unusable files of the source in the state of `stamp`; None if they are not known.

    Args:
      stamp: see `fingerprint_cache.path`.
    """
    try:
        content = json.loads(_beside(stamp).read_bytes()) if stamp else {}
        files.check_seal(content)
        return [(str(file), str(reason)) for file, reason in content["unusable"]]
    except (OSError, *files.MALFORMED):
        return None


def write(stamp: Path, unusable: Unusable) -> None:
    """Write what `read` returns. If that fails, the next start reads the source again."""
    with contextlib.suppress(OSError):
        files.replace(_beside(stamp), files.to_json(files.seal({"unusable": unusable})))


def _beside(stamp: Path) -> Path:
    return stamp.with_suffix(".unusable.json")


def check_any(spec: str, records: list, bad: Unusable, on_bad: OnBad | None) -> None:
    """Raise DataError if no file of a source is usable."""
    if not records:
        first = f", the first: {bad[0][0]}: {bad[0][1]}" if bad else ""
        listed = f"; {on_bad(sorted(bad))} lists these files" if on_bad else ""
        raise DataError(
            f"no usable image among {len(bad)} files{first}",
            spec,
            f"give UTKFace-named images or a FairFace CSV{listed}",
        )


def check_share(spec: str, good: int, bad: Unusable, max_bad: float, on_bad: OnBad | None) -> None:
    """Raise DataError if more than a share of `max_bad` is unusable, or if a spreadsheet has changed the labels."""
    share = len(bad) / (good + len(bad))
    some = "; ".join(f"{file}: {reason}" for file, reason in bad[:3])
    damaged = [f"{file}: {reason}" for file, reason in bad if fairface.DAMAGE in reason]
    if damaged and max_bad < 1:  # whole age groups would be missing
        raise DataError(
            f"a spreadsheet has changed the ages of {len(damaged)} images in the CSV ({damaged[0]})",
            spec,
            "restore the CSV as it was published; in a spreadsheet, import its columns as text",
        )
    if share > max_bad:
        listed = f" that {on_bad(bad)} lists" if on_bad else ""
        allow = f", or allow them with --config.data.max_bad={round(share + 0.005, 2)}" if share <= MOST_ALLOWED else ""
        raise DataError(
            f"{len(bad)} of {good + len(bad)} files are unusable, more than data.max_bad {max_bad:g} ({some})",
            spec,
            f"fix or remove the files{listed}{allow}",
        )
