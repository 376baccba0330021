"""SIGTERM, SIGHUP and Ctrl-C: the first signal requests a stop after saving, the second ends the process at once."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

from agegender_jax.errors import Stopped

CODES = {signal.SIGTERM: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
GRACE = 5.0  # seconds for the main thread to stop by itself where nothing would be lost
REPEAT = 1.0  # seconds in which a second signal counts as the first: schedulers signal both launcher and task
SHOW_CURSOR = b"\x1b[?25h"  # progress bars hide it

_active: "StopFlag | None" = None


class StopFlag:
    """While entered, `code` is None until a signal requests a stop, then 75 (SIGTERM, SIGHUP) or 130 (Ctrl-C).

    The main thread polls the flag. Python runs its signal handlers only between bytecodes, which a compilation can
    delay by a minute, so a thread watches the bytes that the interpreter's own handler writes. It sets the flag and, if
    `owns_process`, ends the process at the second signal, or `grace` seconds after the first if nothing is unsaved. In
    the process of another program, such as a notebook, the second signal raises KeyboardInterrupt instead. Outside the
    main thread, where Python allows no handlers, entering has no effect. A SIGHUP that is ignored, as under nohup,
    stays ignored.

    Args:
      owns_process: whether the process may be ended.

    Attributes:
      grace: seconds.
      trained, saved: the last step trained, and the last one on disk, in this process or in the one that saves.
    """

    def __init__(self, owns_process: bool = False):
        self.code: int | None = None
        self._owns_process = owns_process
        self._first: float | None = None  # when the first signal came
        self.grace = GRACE
        self.trained = self.saved = 0
        self._previous: dict = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        self._previous = {number: signal.signal(number, self._handle) for number in CODES.keys() - ignored}
        threading.Thread(target=self._watch, args=(self._read,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._previous = {}
        self._write.close()  # ends the watching thread

    def install(self) -> None:
        """Install the handlers again, after a library that sets its own."""
        if threading.current_thread() is threading.main_thread():
            for number in self._previous:
                signal.signal(number, self._handle)

    def begin(self, step: int, grace: float) -> None:
        """Reset the attributes: a training starts after `step`, which is saved or is 0."""
        self.trained = step
        self.saved, self.grace = step, grace

    def mark_saved(self, step: int) -> None:
        """Record that a step is on disk."""
        self.saved = step

    def unsaved(self) -> bool:
        """Return whether a trained step is not on disk yet."""
        return self.trained > self.saved

    def check(self, doing: str, step: int | None = None) -> None:
        """Raise Stopped if a signal has arrived, while `doing` something, or after saving `step`."""
        if self.code is not None:
            raise Stopped(self.code, step, doing)

    def _handle(self, number, frame) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._first > REPEAT and not self._owns_process:
            raise KeyboardInterrupt
        self._first = self._first or now
        self.code = self.code or CODES[number]

    def _watch(self, source: socket.socket) -> None:
        first: float | None = None  # when the first signal came
        since = 0.0  # from when on nothing was unsaved
        with source:
            while True:
                ready = select.select([source], [], [], None if first is None else 0.1)[0]
                now = time.monotonic()
                if not ready:
                    since = now if self.unsaved() else since
                    if now - since > self.grace and self._owns_process:
                        _leave(self.code, b"stopped with nothing unsaved; the same command resumes\n")
                    continue
                received = source.recv(1)
                if not received:
                    return
                code = CODES.get(received[0])  # type: ignore[call-overload]
                if code is None:
                    continue
                if first is None:
                    first, since, self.code = now, now, self.code or code
                    _write(self._announcement())
                elif now - first > REPEAT and self._owns_process:
                    _leave(code, b"")

    def _announcement(self) -> bytes:
        if self.unsaved():
            return b"\nstopping after this step, once it is saved; a second signal leaves at once\n"
        when = f" within {self.grace:.0f} s" if self._owns_process else ""
        return f"\nstopping{when}: nothing has to be saved; a second signal leaves at once\n".encode()


@contextlib.contextmanager
def stop_flag(owns_process: bool = False) -> Iterator[StopFlag]:
    """Yield the flag that has already been entered, with its handlers reinstalled, or else a new one."""
    global _active
    if _active is not None:
        _active.install()
        yield _active
        return
    with StopFlag(owns_process) as flag:
        _active = flag
        try:
            yield flag
        finally:
            _active = None


def _leave(code: int, message: bytes) -> None:
    _write(message)
    if os.isatty(1):
        _write(SHOW_CURSOR, 1)
    os._exit(code)


def _write(message: bytes, stream: int = 2) -> None:
    try:
        os.write(stream, message)
    except OSError:
        pass
