"""A full disk: one clear error, the last checkpoint intact, and the same command continues once there is space."""

import contextlib
import pathlib
import random
import shutil
import subprocess

from tests.faults import in_process, jobs
from tests.faults.registry import Outcome, point

STEPS = 24
FULL = 4
PAGE = 4096
NO_ROOT = "file systems cannot be mounted here"


@contextlib.contextmanager
def small_disk(path):
    """Mount an empty file system of one page; yield a function that sets its size in bytes, None without the rights."""
    path.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", str(path))
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda size: subprocess.run(("mount", "-o", f"remount,size={size}", str(path)), check=True)
    finally:
        subprocess.run(("umount", "-l", str(path)), check=True)


class Filling:
    """Runs on a small disk that grows after each failure, until they end."""

    def __init__(self, folder, seed):
        from agegender_jax.checkpoint import saving

        self.rng, self.folder, self.shutil = random.Random(seed), pathlib.Path(folder), saving.shutil
        self.usage, self.met, self.runs, self.failures = shutil.disk_usage, 0, 0, []
        self.fits = in_process.Fits(folder, num_steps=STEPS, eval__every_epochs=2)
        self.fits.run("undisturbed")
        self.expected = in_process.state(self.folder / "undisturbed")

    def run(self, set_size, disk, trials):
        """Complete one run, with a full disk until `trials` were met; a run that meets no more has room at once."""
        size, step, code = PAGE, 0, FULL
        while code:
            set_size(size)
            code, text = self._try(disk)
            self.met += code != 0
            if code and (code != FULL or "full" not in text or len(text.splitlines()) != 3):
                self.failures.append(f"run {self.runs}, {size} bytes: {code} {text}")
            steps = _steps(disk / "run" / "checkpoints")
            if max(steps, default=0) < step:
                self.failures.append(f"run {self.runs}, {size} bytes: after step {step} there are {steps}")
            step = max(steps, default=0)
            size += PAGE * (self.rng.choice((1, 2, 5, 10, 20)) if self.met < trials else 1000)
        got = in_process.state(disk / "run")
        names = [name for name in sorted(got | self.expected) if got.get(name) != self.expected.get(name)]
        self.failures += [f"run {self.runs}: {', '.join(names[:6])}"] if names else []
        self.runs += 1

    def _try(self, disk):
        """Start the run; at every second time the room is judged wrongly, as where another program takes it."""
        if self.rng.random() < 0.5:
            self.shutil.disk_usage = lambda path: self.usage(path)._replace(free=2**40)
        try:
            return self.fits.code_of(disk / "run", data__cache_dir=str(disk / "cache"))
        finally:
            self.shutil.disk_usage = self.usage


def fill(folder, trials, seed):
    """Let runs meet a full disk `trials` times, each at a random later write; return the failures and their number."""
    filling = Filling(folder, seed)
    while filling.met < trials:
        disk = filling.folder / f"disk{filling.runs}"
        with small_disk(disk) as set_size:
            if set_size is None:
                return None
            filling.run(set_size, disk, trials)
    return filling.met, filling.failures, {"runs": filling.runs}


def _steps(checkpoints):
    return [int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal()] if checkpoints.exists() else []


@point(
    "a full disk at any write: exit 4, earlier checkpoints stay; with room, bit for bit as if undisturbed",
    push=5,
    release=100,
)
def full(trials, rng, folder):
    result = jobs.call(fill, str(folder), trials, rng.random())
    return Outcome(*result) if result else Outcome(0, skipped=NO_ROOT)
