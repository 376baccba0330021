"""Locks, disk space and limits of the process, in which systems differ."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from agegender_jax.data import cache, prepare, sources, tfds_builder
from agegender_jax.errors import ConfigError


def fail(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


def test_a_lock_excludes_and_waiting_can_be_ended(tmp_path):
    path = tmp_path / "data"
    with cache.locked(path) as exclusive:
        assert exclusive
        texts = []

        def stop(done, total, text):
            texts.append(text)
            if len(texts) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), cache.locked(path, stop):
            pass
        assert texts == ["waiting for another process that prepares the same images"] * 2
    with cache.locked(path, stop) as exclusive:
        assert exclusive


def test_a_waiting_process_gets_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "POLL_S", 0.001)
    order = []

    def second():
        with cache.locked(tmp_path / "data"):
            order.append("second")

    with cache.locked(tmp_path / "data"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.02)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_systems_without_locks(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", fail(number))
    with cache.locked(tmp_path / "data") as exclusive:
        assert not exclusive


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADF])
def test_other_errors_of_a_lock_are_errors(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", fail(number))
    with pytest.raises(OSError), cache.locked(tmp_path / "data"):
        pass


def test_the_lock_of_another_user_is_opened_for_reading(tmp_path, monkeypatch):
    (tmp_path / "data.lock").touch()
    real, modes = os.open, []

    def deny_writing(path, flags, mode=0o777):
        modes.append(flags & os.O_ACCMODE)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            fail(errno.EACCES)()
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", deny_writing)
    with cache.locked(tmp_path / "data") as exclusive:
        assert exclusive and modes == [os.O_RDWR, os.O_RDONLY]
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail(errno.EBADF))  # on NFS
        with cache.locked(tmp_path / "data") as exclusive:
            assert not exclusive
    monkeypatch.setattr(os, "open", fail(errno.EACCES))  # its owner's umask is 077
    with cache.locked(tmp_path / "data") as exclusive:
        assert not exclusive


@pytest.mark.parametrize("error_name", ["", "EOPNOTSUPP", "EINVAL"])
def test_systems_that_cannot_allocate(tmp_path, monkeypatch, error_name):
    if error_name:
        monkeypatch.setattr(os, "posix_fallocate", fail(getattr(errno, error_name)))
    else:
        monkeypatch.delattr(os, "posix_fallocate")  # macOS
    array, path = cache.new_array(tmp_path / "a.npy", (3, 4))
    array[:] = 7
    cache.replace_array(array, path, tmp_path / "a.npy")
    assert (np.load(tmp_path / "a.npy") == 7).all() and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10))
    with pytest.raises(OSError) as caught:
        cache.new_array(tmp_path / "b.npy", (3, 4))
    assert caught.value.errno == errno.ENOSPC and len(list(tmp_path.iterdir())) == 1


def test_damaged_data_of_another_user(tmp_path, monkeypatch):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    monkeypatch.setattr("pathlib.Path.rename", lambda a, b: fail(errno.ENOTEMPTY if a.name == "new" else errno.EPERM)())
    with pytest.raises(ConfigError, match="belong to another user"):
        cache.replace_folder(tmp_path / "new", tmp_path / "old")


def test_too_few_threads_are_an_error(monkeypatch):
    cache.check_threads(3)
    start, count = threading.Thread.start, []

    def start_two(thread):
        if len(count) == 2:
            raise RuntimeError("can't start new thread")
        count.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(
        ConfigError, match="allows 2 more threads for this user; reading prepared data takes 3"
    ) as caught:
        cache.check_threads(3)
    assert caught.value.code == 2 and "ulimit -u" in caught.value.fix
    assert not any(thread.is_alive() for thread in count)


@pytest.fixture
def no_threads(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    tfds_builder.check_threads.cache_clear()


def test_threads_are_checked_before_a_source_is_read(no_threads, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "left_out_of_folders", lambda spec: pytest.fail("the source is read"))
    with pytest.raises(ConfigError, match="allows 0 more threads"):
        prepare.prepare("synthetic:5", str(tmp_path))


def test_threads_are_checked_before_prepared_data_are_read(no_threads, tmp_path):
    with pytest.raises(ConfigError, match="allows 0 more threads"):
        tfds_builder.read(tmp_path)


def test_array_record_starts_as_many_threads_as_are_checked(tmp_path):
    program = f"""
import os
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from agegender_jax.data import tfds_builder
writer = ArrayRecordWriter({str(tmp_path / "a")!r})
writer.write(b"abc")
writer.close()
before = len(os.listdir("/proc/self/task"))
ArrayRecordReader({str(tmp_path / "a")!r}).read([0])
print(len(os.listdir("/proc/self/task")) - before <= tfds_builder.READER_THREADS)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr
