"""Duration and memory of steps, and the time spent in compilation."""

import os
import resource
import time
from collections.abc import Callable

import jax

WARMUP = 2  # steps, the first of which compiles


def seconds_of(step: Callable[[], None]) -> float:
    """Return the duration of a call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


class Timed:
    """A step after its warm-up.

    Args:
      step: returns when its results are computed.

    Attributes:
      first: seconds of the first call.
      compilations: what was compiled for it.
    """

    def __init__(self, step: Callable[[], None]):
        self._step = step
        with Compilations() as self.compilations:
            self.first, *_ = self.run(WARMUP)

    def run(self, count: int) -> list[float]:
        """Return seconds of each of `count` steps."""
        return [seconds_of(self._step) for _ in range(count)]


class Compilations:
    """Record compilation: `seconds` of tracing, lowering and compiling, and whether anything was `cached`."""

    def __enter__(self) -> "Compilations":
        self.cached, self._spans = False, []
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)
        return self

    def __exit__(self, *error) -> None:
        jax.monitoring.unregister_event_duration_listener(self._duration)
        jax.monitoring.unregister_event_listener(self._event)

    @property
    def seconds(self) -> float:
        """The total time; overlapping intervals count once."""
        total, reached = 0.0, 0.0
        for begin, end in sorted(self._spans):
            total += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return total

    def _duration(self, event: str, seconds: float, **_) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._spans.append((now - seconds, now))

    def _event(self, event: str, **_) -> None:
        self.cached |= event == "/jax/compilation_cache/cache_hits"


def process_age() -> float:
    """Return seconds since the start of this process (Linux)."""
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_memory_mb() -> float:
    """Return peak memory in MiB: of the fullest device; on CPU the resident memory of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    used = [stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat]
    return max(used) / 2**20 if used else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
