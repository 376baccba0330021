"""Large memory pages for a program on a Linux CPU. This module does not import jax, because it must run first."""

import os
import sys
from pathlib import Path

from agegender_jax.run.host import interpreter

SETTING = "glibc.malloc.hugetlb=1"
RESTARTED = "AGEGENDER_TUNABLES_BEFORE"  # what GLIBC_TUNABLES was, from a program to its own restart
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large() -> str | None:
    """Restart this program, in the same process, with pages of 2 MiB for large arrays.

    XLA allocates the memory of each step from the operating system and releases it afterwards, so that every step
    causes page faults; large pages cause few. benchmarks/README.md has the measured gain. glibc reads the setting only
    when a process starts. The setting is then removed from the environment, so that no child process inherits it.

    Nothing is restarted if GLIBC_TUNABLES already sets `glibc.malloc.hugetlb`, if jax will compute on a device other
    than the CPU, or if we do not own the process (`interpreter.owns_process`).

    Returns:
      A line that says how to get large pages, if they would help and we do not own the process; else None.
    """
    if RESTARTED in os.environ:
        _set_or_remove("GLIBC_TUNABLES", os.environ.pop(RESTARTED))
        return None
    before = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in before or not interpreter.uses_cpu() or not _offered():
        return None
    tunables = f"{before}:{SETTING}" if before else SETTING
    if not interpreter.owns_process():
        return f"faster on this CPU with large memory pages: start Python with GLIBC_TUNABLES={tunables}"
    os.environ[RESTARTED] = before
    os.environ["GLIBC_TUNABLES"] = tunables
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # without large pages the program is only slower
        del os.environ[RESTARTED]
        _set_or_remove("GLIBC_TUNABLES", before)
    return None


def _set_or_remove(name: str, value: str) -> None:
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


def _offered() -> bool:
    """Return whether glibc, from 2.35 on, can ask for large pages and the kernel may give some."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        new = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
        return new and bool(sys.executable) and "[never]" not in KERNEL.read_text()
    except (OSError, ValueError, AttributeError):  # no such name or file: another system
        return False
