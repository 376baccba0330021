"""Tiny trainings in real processes, and what must be equal of two of them."""

import hashlib
import json
import pathlib

import programs

from agegender_jax import synthetic
from agegender_jax.checkpoint import reading, tree

ROOT = programs.ROOT
TIMEOUT = 900  # seconds; the machine may be busy
CONFIG = "tests/faults/tiny_config.py"
FACES = 64


def faces(folder):
    """Draw the faces that the runs below `folder` share, unless they are there; return their folder."""
    path = pathlib.Path(folder) / "faces"
    if not path.exists():
        synthetic.write_faces(path, FACES, seed=0, size=32)
    return path


def arguments(folder, workdir, net="resnet", **fields):
    """Return the arguments of launch.train for a run in `folder`/`workdir`, with the cache that runs there share.

    Args:
      fields: of the config, with `__` for a dot.
    """
    fields = {"data__source": faces(folder), "data__cache_dir": folder / "cache", **fields}
    chosen = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    return (f"--config={CONFIG}:{net}", *chosen, f"--workdir={folder / workdir}")


def train(*arguments, devices=1, timeout=TIMEOUT):
    """Run launch.train to its end; return the exit code, stdout and stderr."""
    child = programs.fork("train", *arguments, devices=devices)
    try:
        return child.wait(timeout), *child.outputs()
    finally:
        child.kill()


def patched(function, *values):
    """Return the arguments with which child.py calls a function and then, if more follow, the program."""
    return f"{function.__module__}:{function.__name__}", json.dumps(values)


def call(function, *values, devices=1, timeout=7200):
    """Return `function(*values)`, computed in a forked process of its own; both ways as JSON."""
    child = programs.fork("tests.faults.child", *patched(function, *values), devices=devices)
    try:
        code = child.wait(timeout)
        output, errors = child.outputs()
    finally:
        child.kill()
    if code:
        raise RuntimeError(f"exit code {code}: {errors[-1000:]}")
    return json.loads(output.splitlines()[-1])


def leaves(workdir, which="latest"):
    """Return the arrays of a checkpoint by name: parameters, statistics, average, optimizer, sums and step."""
    checkpoints = pathlib.Path(workdir) / "checkpoints"

    def read(folder):
        return tree.named_leaves(tree.read(folder / reading.STATE, tree.shapes(folder / reading.STATE)))

    return reading.find(checkpoints.resolve(), which, read, lambda step, why: None)[0]


def outcome(workdir):
    """Return by name a digest of all that a run leaves and that does not depend on the clock."""
    path = pathlib.Path(workdir)
    rows = {f"log line {i}": row for i, row in enumerate(programs.reproducible_rows(path))}
    files = {name: _digest((path / name).read_bytes()) for name in ("predictions.csv", "calibration.json")}
    return rows | digests(path) | files


def digests(workdir):
    """Return a digest of each array of the last checkpoint."""
    return {name: _digest(value.tobytes()) for name, value in leaves(workdir).items()}


def differences(workdir, expected):
    """Return the names in which the outcome of a run differs from `expected`."""
    got = outcome(workdir)
    return [name for name in sorted(got | expected) if got.get(name) != expected.get(name)]


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
