"""The directories of the calls that wrote to a folder, from which the relative names of pictures in its rows start."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from agegender_jax import files
from agegender_jax.errors import ConfigError

FIELD, ONE = "directories", "directory"  # in the settings of a command; earlier versions wrote that of the last call


def after(path: Path) -> list[str]:
    """Return what the field is after this call.

    Args:
      path: the settings of earlier calls, which may be missing.
    """
    return sorted({*_earlier(path), os.getcwd()})


def check_same_pictures(
    path: Path, states: Mapping[str, list[int] | None], rows: Iterable[tuple[str, list[int] | None]]
) -> None:
    """Raise ConfigError if a relative name may be that of another picture in the rows of a call from elsewhere.

    Its rows would be replaced, as those of a picture that has changed are. The other directory still has that picture.

    Args:
      path: the settings of earlier calls.
      states: of the pictures of this call, by name.
      rows: names and states of the pictures in the rows.
    """
    elsewhere = [place for place in _earlier(path) if place != os.getcwd()]
    if not elsewhere:
        return
    for name, state in rows:
        if os.path.isabs(name) or states.get(name, state) == state:
            continue
        if others := [place for place in elsewhere if os.path.lexists(os.path.join(place, name))]:
            raise ConfigError(
                f"--out may have rows of another picture called {files.printable(name)}: an earlier call ran in "
                f"{files.printable(others[0])}",
                str(path.parent),
                "name another --out, or name the pictures by their whole paths",
            )


def _earlier(path: Path) -> list[str]:
    try:
        settings = json.loads(path.read_bytes())
        return [str(name) for name in settings.get(FIELD) or [settings[ONE]]]
    except (OSError, *files.MALFORMED):
        return []  # no earlier call, or one of a version that did not record it
