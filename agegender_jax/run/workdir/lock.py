"""The lock of a workdir: the operating system's if the file system has locks, else the process named in the file."""

import fcntl
import io
import json
import os
import socket
from pathlib import Path

from agegender_jax import files
from agegender_jax.errors import ConfigError

LOCK = "LOCK"


def take(folder: Path) -> io.FileIO:
    """Lock the folder, write this process's number and host to the file, and return it.

    The system releases the lock when the process ends for any reason. On a file system without locks, the file counts
    as locked while its process runs. Whether a process on another host runs is unknown; it counts as running until it
    has called `release`.

    Raises:
      ConfigError: another process holds it.
      OSError: the file cannot be written.
    """
    lock = open(folder / LOCK, "ab+", buffering=0)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(folder, _holder(lock), "wait for that run, or use another --workdir") from None
        except OSError as error:
            if error.errno not in files.NO_LOCKS:
                raise
            holder = _holder(lock)
            if _may_run(holder):
                fix = f"wait for that run; if it has ended, delete {LOCK}: this file system has no locks"
                raise _in_use(folder, holder, fix) from None
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    except BaseException:
        lock.close()
        raise
    return lock


def release(lock: io.FileIO) -> None:
    """Empty and unlock the file."""
    try:
        lock.truncate(0)
    except OSError:
        pass
    lock.close()


def _holder(lock: io.FileIO) -> tuple[int, str] | None:
    """Return the number and host of the process named in the file."""
    try:
        lock.seek(0)
        holder = json.loads(lock.read(4096))
        return int(holder["pid"]), str(holder["host"])
    except (OSError, *files.MALFORMED):
        return None


def is_running(pid: int) -> bool:
    """Return whether another process on this host has this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0 and pid != os.getpid()


def _may_run(holder: tuple[int, str] | None) -> bool:
    if holder is None or holder[1] != socket.gethostname():
        return holder is not None
    return is_running(holder[0])


def _in_use(folder: Path, holder: tuple[int, str] | None, fix: str) -> ConfigError:
    who = "another process" if holder is None else f"process {holder[0]} on {holder[1]}"
    return ConfigError(f"the workdir is in use by {who}", str(folder), fix)
