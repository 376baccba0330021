"""Workdirs that cannot be used: exit 2 with path and reason, before anything is computed."""

import ctypes
import os
import resource
import struct

from tests.faults import jobs
from tests.faults.registry import Outcome, point

ANOTHER = 65534  # user
LONGEST = 3.0  # seconds of the processor


def lose_rights():
    """Give up root's right to read and write everywhere; limit the processor's time."""
    header = struct.pack("Ii", 0x20080522, 0)  # version 3, this process
    if ctypes.CDLL(None).capset(header, bytes(24)):
        os._exit(99)
    limit_time()


def limit_time():
    """End this process by SIGXCPU if it works for longer than LONGEST."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + LONGEST + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _file(folder):
    (folder / "place").write_text("")
    return folder / "place"


def _below_file(folder):
    return _file(folder) / "run"


def _read_only(folder):
    (folder / "place").mkdir(mode=0o555)
    return folder / "place"


def _below_read_only(folder):
    return _read_only(folder) / "a" / "run"


def _not_ours(folder):
    (folder / "place").mkdir(mode=0o700)
    os.chown(folder / "place", ANOTHER, ANOTHER)
    return folder / "place" / "run"


def _lock_not_ours(folder):
    (folder / "place").mkdir()
    (folder / "place" / "LOCK").write_text("")
    os.chown(folder / "place" / "LOCK", ANOTHER, ANOTHER)
    return folder / "place"


def _device(folder):
    return "/dev/null/run"


def _too_long(folder):
    return folder / ("x" * 300)


PLACES = (_file, _below_file, _read_only, _below_read_only, _not_ours, _lock_not_ours, _device, _too_long)


@point("a workdir that cannot be used: exit 2 naming it, within 3 s of computing", push=0, release=len(PLACES))
def unusable(trials, rng, folder):
    if os.geteuid():
        return Outcome(0, skipped="root cannot give up its rights here")
    failures = []
    for i in range(trials):
        place = folder / str(i)
        place.mkdir()
        workdir = PLACES[i % len(PLACES)](place)
        arguments = jobs.arguments(folder, workdir)
        child = jobs.programs.fork("tests.faults.child", *jobs.patched(lose_rights), *arguments)
        try:
            code = child.wait(jobs.TIMEOUT)
        finally:
            child.kill()
        errors = child.outputs()[1]
        if code != 2 or len(errors.splitlines()) != 3 or not (str(place) in errors or str(workdir) in errors):
            failures.append(f"{PLACES[i % len(PLACES)].__name__}: {code} {errors[-300:]}")
    return Outcome(trials, failures)
