"""SIGTERM and Ctrl-C: the first asks for a stop after saving, the second leaves at once."""

import os
import signal
import socket
import threading

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class StopFlag:
    """While entered, `code` is None until a signal asks to stop: then 75 (SIGTERM) or 130 (Ctrl-C).

    Python runs its signal handlers only between bytecodes, which a compilation can put off by a minute. So a
    thread watches the bytes that the interpreter's own handler writes, and ends the process at the second.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self):
        self.code: int | None = None
        self._previous: dict = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=_leave_at_second, args=(self._read,), daemon=True).start()
        self._previous = {number: signal.signal(number, self._handle) for number in CODES}
        return self

    def __exit__(self, *error) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._previous = {}
        self._write.close()  # ends the watching thread

    def _handle(self, number, frame) -> None:
        if self.code is None:
            self.code = CODES[number]


def _leave_at_second(source: socket.socket) -> None:
    seen = False
    with source:
        while received := source.recv(1):
            code = CODES.get(received[0])
            if code is None:
                continue
            if seen:
                os._exit(code)
            seen = True
            _tell(b"\nstopping after this step, once it is saved; a second signal leaves at once\n")


def _tell(message: bytes) -> None:
    try:
        os.write(2, message)
    except OSError:
        pass
