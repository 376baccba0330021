"""Two writers of one workdir, locks that dead processes leave, and file systems without locks."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import time

import programs

from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir import Workdir
from tests.faults import jobs
from tests.faults.registry import Outcome, point

DEAD = 2**22 + 1  # above the largest process number
MISSING = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@point("a LOCK file left by a dead process: the next run takes it over", push=5, release=20)
def stale(trials, rng, folder):
    failures = []
    for i in range(trials):
        path = folder / str(i)
        path.mkdir()
        content = {"pid": rng.choice((1, DEAD)), "host": rng.choice((socket.gethostname(), "another"))}
        text = json.dumps(content)
        (path / "LOCK").write_text(text[: rng.randint(0, len(text))])
        failures += _failure(path, "")
    return Outcome(trials, failures)


def hold(path, missing):
    """Hold a workdir for a minute."""
    if missing:
        lose_locks(missing)
    with Workdir(path):
        os.write(1, b"held\n")
        time.sleep(60)


def lose_locks(number):
    """Let every flock fail in this process, as on a file system without locks."""

    def flock(handle, flags):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


def _failure(path, holder):
    """Enter a workdir; return a line unless `holder` is named in an error or, if it is empty, there is none."""
    try:
        with Workdir(path):
            pass
        return [f"{path.name}: {holder} was not noticed"] if holder else []
    except ConfigError as error:
        right = error.code == 2 and holder and f"in use by {holder}" in error.what and len(str(error).splitlines()) == 3
        return [] if right else [f"{path.name}: {error}"]


def _held(path, missing=0):
    """Start a process that holds the workdir; return it once it does."""
    child = programs.fork("tests.faults.child", *jobs.patched(hold, str(path), missing))
    while "held" not in child.outputs()[0]:
        assert child.poll() is None, child.outputs()
        time.sleep(0.005)
    return child


@point("a second run in one workdir: refused, naming the first; allowed after that was killed", push=2, release=20)
def two_writers(trials, rng, folder):
    failures, host = [], socket.gethostname()
    for i in range(trials):
        path = folder / str(i)
        first = _held(path)
        failures += _failure(path, f"process {first.pid} on {host}")
        if i == 0:  # as a program
            code, _, errors = jobs.train(*jobs.arguments(folder, str(i)))
            named = f"in use by process {first.pid} on {host}" in errors and len(errors.splitlines()) == 3
            failures += [] if code == 2 and named else [f"the program: {code} {errors[-300:]}"]
        first.kill()
        failures += _failure(path, "")
    return Outcome(trials, failures)


@point("a file system without locks: in use as long as the process named in LOCK runs", push=3, release=21)
def no_locks(trials, rng, folder):
    failures, flock = [], fcntl.flock
    for i in range(trials):
        path, number = folder / str(i), MISSING[i % len(MISSING)]
        first = _held(path, number)
        try:
            lose_locks(number)
            failures += _failure(path, f"process {first.pid} on {socket.gethostname()}")
            first.send_signal(signal.SIGKILL)
            first.wait(60)
            failures += _failure(path, "")
            (path / "LOCK").write_text(json.dumps({"pid": DEAD, "host": "another"}))
            failures += _failure(path, f"process {DEAD} on another")
            (path / "LOCK").unlink()
            failures += _failure(path, "") + _failure(path, "")
        finally:
            fcntl.flock = flock
            first.kill()
    return Outcome(trials, failures)


@point("a run on a file system without locks ends normally", push=0, release=1)
def run_without_locks(trials, rng, folder):
    arguments = jobs.arguments(folder, "run", num_steps=6)
    child = programs.fork("tests.faults.child", *jobs.patched(lose_locks, errno.ENOLCK), *arguments)
    try:
        code = child.wait(jobs.TIMEOUT)
    except subprocess.TimeoutExpired:
        code = None
    child.kill()
    return Outcome(1, [f"{code} {child.outputs()[1][-300:]}"] if code else [])
