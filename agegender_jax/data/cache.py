"""The folder of prepared data: locks, disk space, and files shared by several processes or users."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from agegender_jax.errors import ConfigError, DataError, UserError
from agegender_jax.files import NO_LOCKS, sync

Progress = Callable[[int, int, str], None]
FULL = (errno.ENOSPC, errno.EDQUOT)
POLL_S = 0.1  # between two tries to take a lock
OTHER_FOLDER = "choose a folder that you can write: --config.data.cache_dir=DIR (launch.audit: --cache_dir=DIR)"
_NO_ALLOCATION = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def writable(folder: Path) -> Path:
    """Create `folder` if necessary, check that it can be written, and return it.

    Raises:
      ConfigError: it cannot be written.
      OSError: the disk is full.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        problem = "the cache's path is not UTF-8, as array_record needs it"
        raise ConfigError(problem, str(folder), OTHER_FOLDER) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ConfigError(f"the cache cannot be written: {error.strerror}", str(folder), OTHER_FOLDER) from error
    return folder


@contextlib.contextmanager
def locked(path: Path, progress: Progress | None = None) -> Iterator[bool]:
    """Hold the lock `<path>.lock` while the context lasts; yield False if the file system has no locks.

    It is False, too, if the lock file belongs to another user on NFS. Without a lock, two processes may do the same
    work. They do not disturb each other, because each file and folder appears by a rename.
    """
    handle = _open_lock(path.with_name(f"{path.name}.lock"))
    try:
        yield handle is not None and _lock(handle, progress)
    finally:
        if handle is not None:
            os.close(handle)


def _open_lock(path: Path) -> int | None:
    """Return a handle of the lock file; None if it can be neither written nor read."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # another user's file can only be read
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise
    return None


def _lock(handle: int, progress: Progress | None) -> bool:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if progress:  # which may raise, for example because of a signal
                progress(0, 1, "waiting for another process that prepares the same images")
            time.sleep(POLL_S)
        except OSError as error:
            if error.errno in NO_LOCKS or error.errno == errno.EBADF and _is_read_only(handle):
                return False
            raise


def _is_read_only(handle: int) -> bool:
    """Return whether a file is open for reading only; NFS answers EBADF when such a file is locked exclusively."""
    return fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def new_folder(beside: Path) -> Path:
    """Make a temporary folder, to be renamed to `beside`."""
    return _new(lambda path: path.mkdir(), beside)


def new_array(beside: Path, shape: tuple[int, ...]) -> tuple[np.memmap, Path]:
    """Make a temporary, memory-mapped uint8 array file, to be renamed to `beside`, and allocate its disk space.

    Without that, writing to a page when the disk is full would kill the process.

    Raises:
      OSError: the disk is full.
    """
    path = _new(lambda path: path.open("xb").close(), beside)
    try:
        array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        with open(path, "r+b") as file:
            _allocate(file.fileno(), path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return array, path


def replace_array(array: np.memmap, temporary: Path, path: Path) -> None:
    """Write the array to the disk and rename its file to `path`."""
    array.flush()
    sync(temporary)
    temporary.replace(path)


def replace_folder(unfinished: Path, folder: Path) -> None:
    """Rename `unfinished` to `folder`, then remove an earlier folder of that name."""
    try:
        unfinished.rename(folder)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    old = unfinished.with_name(f"{unfinished.name}.old.tmp")
    try:
        folder.rename(old)
    except PermissionError as error:
        raise ConfigError("damaged prepared data belong to another user", str(folder), OTHER_FOLDER) from error
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(beside: Path) -> None:
    """Remove temporary files of `beside` that killed processes left. The caller must hold its lock."""
    for path in beside.parent.glob(f"{beside.name}*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Turn any exception caused by a full disk into an OSError that names `folder`, or the file in the exception."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # array_record raises RuntimeError
        full = getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error)
        if not full or getattr(error, "filename", None):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def check_threads(count: int) -> None:
    """Raise ConfigError unless this process can start `count` more threads."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(count)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as error:
        raise ConfigError(
            f"the system allows {started} more threads for this user; reading prepared data takes {count}",
            "limit of processes and threads",
            "raise it, for example with: ulimit -u 4096",
        ) from error
    finally:
        done.set()
        for thread in threads[:started]:
            thread.join()


def unreadable(folder: Path, error: OSError) -> DataError:
    """Return the error for existing prepared data that cannot be read."""
    return DataError(f"prepared data cannot be read: {error.strerror}", str(error.filename or folder), OTHER_FOLDER)


def _new(make: Callable[[Path], None], beside: Path) -> Path:
    while True:
        path = beside.with_name(f"{beside.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
        with contextlib.suppress(FileExistsError):
            make(path)
            return path


def _allocate(handle: int, path: Path) -> None:
    size = os.fstat(handle).st_size
    try:
        os.posix_fallocate(handle, 0, size)
        return
    except AttributeError:  # macOS
        pass
    except OSError as error:
        if error.errno not in _NO_ALLOCATION:
            raise OSError(error.errno, error.strerror, str(path)) from None
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
