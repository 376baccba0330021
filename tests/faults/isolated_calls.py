"""A function called on many items in a process of its own, which may crash, hang or grow."""

import dataclasses
import multiprocessing
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CPU_S, WALL_S = 5.0, 100.0  # most for an item; the machine may be busy


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of an item: `value` of the function, or `problem`; CPU seconds; the most memory so far in MB."""

    value: Any
    problem: str
    seconds: float
    memory_mb: float


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Result]:
    """Yield the Result of each item; after a crash or a hang the process is started anew."""
    process = None
    try:
        for item in items:
            process = process or _Process(function)
            result = process.call(item)
            if result is None:
                code = process.end()
                process = None
                result = Result(None, f"the process ended with {code}" if code != -9 else f"more than {WALL_S} s", 0, 0)
            yield result
    finally:
        if process:
            process.end()


class _Process:
    def __init__(self, function):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, item):
        try:
            self._pipe.send(item)
            return self._pipe.recv() if self._pipe.poll(WALL_S) else None
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return None

    def end(self):
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(function, pipe):
    warnings.simplefilter("ignore")
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        started, value, problem = time.process_time(), None, ""
        try:
            value = function(item)
        except Exception as error:
            problem = f"{type(error).__name__} {error}"[:300]
        seconds = time.process_time() - started
        if seconds > CPU_S:
            problem = problem or f"{seconds:.1f} s"
        pipe.send(Result(value, problem, seconds, peak_memory_mb()))


def peak_memory_mb():
    """Return the most memory of this process so far; `ru_maxrss` would count that of the process that started it."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
