"""The command, versions and machine of a measurement, for its results file."""

import pathlib
import shlex
import sys
from typing import Any

from agegender_jax.run.workdir import provenance
from benchmarks import machine


def made_by(program: str, source: str, **options: Any) -> dict:
    """Return `provenance.made_by` and the machine; the command names the files of the source without their folders.

    Args:
      program: name of a module in benchmarks.
      source: as data.source.
      options: further flags; a list is a repeated flag, whose values are paths. None and [] are left out.
    """
    words = [f"--source={','.join(pathlib.Path(part).name for part in source.split(','))}"]
    for name, value in options.items():
        values = [pathlib.Path(path).name for path in value] if isinstance(value, list) else [value]
        words += [f"--{name}={text}" for text in values if text is not None]
    command = shlex.join(["python", "-m", f"benchmarks.{program}", *words])
    return provenance.made_by(sys.argv) | {"command": command, "machine": machine.machine()}
