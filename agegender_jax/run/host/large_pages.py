"""Large memory pages for a program on Linux; no jax here, for it must come first."""

import os
import sys
from pathlib import Path

SETTING = "glibc.malloc.hugetlb=1"
BEFORE = "AGEGENDER_TUNABLES_BEFORE"  # what GLIBC_TUNABLES was
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large() -> None:
    """Starts this program again, in the same process, with pages of 2 MiB for large arrays.

    XLA takes the memory of a step from the operating system and gives it back after it, so that every step pays for
    page faults; large pages need few. What that saves: benchmarks/README.md. A GLIBC_TUNABLES that speaks of
    `glibc.malloc.hugetlb` is left as it is.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in given or not _offered():
        return
    os.environ[BEFORE] = given
    os.environ["GLIBC_TUNABLES"] = f"{given}:{SETTING}" if given else SETTING
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def environment_before() -> dict[str, str]:
    """The environment as the user gave it, for programs that are not ours."""
    environment = dict(os.environ)
    if BEFORE in environment:
        environment["GLIBC_TUNABLES"] = environment.pop(BEFORE)
    return environment


def _offered() -> bool:
    """Whether glibc, from 2.35 on, asks for large pages and the kernel may give some."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        new = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
        return new and bool(sys.executable) and "[never]" not in KERNEL.read_text()
    except (OSError, ValueError, AttributeError):  # no such name or file: another system
        return False
