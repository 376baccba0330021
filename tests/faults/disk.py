"""A disk that is full: one clear error, the last checkpoint intact, and the same command goes on once there is room."""

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


def fill(folder, trials, seed):
    """Let runs meet a full disk `trials` times, each time at a random later write; return failures and figures."""
    from agegender_jax.checkpoint import saving

    rng, folder, failures, met, runs = random.Random(seed), pathlib.Path(folder), [], 0, 0
    fits = in_process.Fits(folder, num_steps=STEPS, eval__every_epochs=2)
    fits.run("undisturbed")
    expected, usage = in_process.state(folder / "undisturbed"), shutil.disk_usage
    with small_disk(folder / "disk") as set_size:
        if set_size is None:
            return None
        while met < trials:
            runs, size, step = runs + 1, PAGE, 0
            set_size(size)
            while True:
                if rng.random() < 0.5:  # the room is judged wrongly, for example because another program takes it
                    saving.shutil.disk_usage = lambda path: usage(path)._replace(free=2**40)
                code, text = fits.code_of("disk/run", data__cache_dir=str(folder / "disk" / "cache"))
                saving.shutil.disk_usage = usage
                if code == 0:
                    break
                met += 1
                if code != FULL or "full" not in text or len(text.splitlines()) != 3:
                    failures.append(f"run {runs}, {size} bytes: {code} {text}")
                steps = _steps(folder / "disk" / "run" / "checkpoints")
                if max(steps, default=0) < step:
                    failures.append(f"run {runs}, {size} bytes: after step {step} there are {steps}")
                step = max(steps, default=0)
                size += PAGE * rng.choice((1, 2, 5, 10, 20) if met < trials else (200,))
                set_size(size)
            got = in_process.state(folder / "disk" / "run")
            names = [name for name in sorted(got | expected) if got.get(name) != expected.get(name)]
            failures += [f"run {runs}: {', '.join(names[:6])}"] if names else []
            shutil.rmtree(folder / "disk" / "run")
            shutil.rmtree(folder / "disk" / "cache")
    return failures, {"runs": runs, "largest_bytes": size}


def _steps(checkpoints):
    return [int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal()] if checkpoints.exists() else []


@point(
    "a full disk at any write: exit 4, earlier checkpoints stay; with room, bit for bit as undisturbed",
    push=5,
    release=100,
)
def full(trials, rng, folder):
    result = jobs.call(fill, str(folder), trials, rng.random())
    return Outcome(trials, *result) if result else Outcome(0, skipped=NO_ROOT)
