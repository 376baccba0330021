"""The provenance of a run: command, versions, devices, git revision and time."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax

import agegender_jax
from agegender_jax import report

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "pillow",
)


def this_start(command: Sequence[str]) -> dict:
    """Return when and how a run was started, ready for JSON."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"started": started, **made_by(command), "command": list(command)}


def made_by(command: Sequence[str]) -> dict:
    """Return `this_start` without the time, so that it is reproducible, and the command as typed."""
    device = jax.devices()[0]
    return {
        "command": report.command_line(command, sys.maxsize),
        "versions": versions(),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "git_revision": git_revision(),
    }


def versions() -> dict[str, str | None]:
    """Return the installed version of each package; None for one that is not installed."""
    installed: dict[str, str | None] = {"python": platform.python_version(), "agegender_jax": agegender_jax.__version__}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed


def git_revision() -> str | None:
    """Return the commit of this library's own files, `-dirty` if they were edited; None outside its repository."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    return tracked and _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ("git", *arguments),
            cwd=Path(agegender_jax.__file__).parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
