"""Damage to files: flipped bits and the like, undone afterwards."""

import contextlib
import pathlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator


def flip(content: bytes, rng: random.Random, count: int = 1) -> bytes:
    """Return bytes with `count` random bits flipped."""
    damaged = bytearray(content)
    for bit in rng.sample(range(8 * len(content)), count):
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@contextlib.contextmanager
def content(path: pathlib.Path, damaged: bytes | None) -> Iterator[None]:
    """Let a file have another content, None for none, and give it back the old one."""
    good = path.read_bytes()
    path.unlink()  # a program that has it open or mapped keeps the old file
    if damaged is not None:
        path.write_bytes(damaged)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(good)


def by_class(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return the files of a folder that are not empty by their class: the name without numbers and hashes."""
    classes = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size:
            name = re.sub(r"[0-9a-f]{32}|\d+", "N", path.relative_to(folder).as_posix())
            classes[name].append(path)
    return dict(classes)
