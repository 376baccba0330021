"""The points of the fault campaign. A point injects one kind of fault many times and counts the broken promises.

A module of this folder registers its points:

    @point("two runs in one workdir: the second ends with exit 2 and names the first", push=1, release=20)
    def two_writers(trials, rng, folder):
        failures = [f"trial {i}: ..." for i in range(trials) if ...]
        return Outcome(trials, failures, {"slowest_s": 1.2})
"""

import dataclasses
import importlib
import pathlib
import pkgutil
import random
import zlib
from collections.abc import Callable
from typing import Any

SEED = 0
NO_POINTS = ("registry", "campaign")


@dataclasses.dataclass
class Outcome:
    """What a point measured.

    Attributes:
      trials: faults that were done.
      failures: a line for each that did not end as promised.
      figures: plain numbers and texts beside the counts.
      skipped: why the point cannot run on this machine; the other attributes then do not count.
    """

    trials: int
    failures: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    skipped: str = ""


@dataclasses.dataclass(frozen=True)
class Point:
    """A point: `run(trials, rng, folder)` with an empty folder returns its Outcome.

    Attributes:
      name: module.function, or module.function[variant].
      what: the fault and the promise, one line.
      push: trials in the fast suite, 0 for none. release: trials in the campaign.
    """

    name: str
    what: str
    run: Callable[[int, random.Random, pathlib.Path], Outcome]
    push: int
    release: int

    def measure(self, size: str, folder: pathlib.Path, seed: int = SEED) -> Outcome:
        """Run the point at a size, `push` or `release`, with random numbers of its own."""
        rng = random.Random(zlib.crc32(self.name.encode()) + seed)
        return self.run(getattr(self, size), rng, folder)


POINTS: dict[str, Point] = {}


def point(what: str, push: int, release: int, variant: str = "") -> Callable:
    """Register the function below, which takes the number of trials, a random.Random and an empty folder."""

    def register(run: Callable) -> Callable:
        name = f"{run.__module__.rpartition('.')[2]}.{run.__name__}" + (f"[{variant}]" if variant else "")
        assert name not in POINTS, name
        POINTS[name] = Point(name, what, run, push, release)
        return run

    return register


def load() -> dict[str, Point]:
    """Import every module of this folder and return the points by name."""
    for module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        if module.name not in NO_POINTS and not module.name.startswith("test_"):
            importlib.import_module(f"tests.faults.{module.name}")
    return dict(sorted(POINTS.items()))
