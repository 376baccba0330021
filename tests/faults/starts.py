"""Unusual starts of a training: scripts without a guard, threads, child processes, notebooks."""

import os
import subprocess
import sys

import programs

from tests.faults import jobs
from tests.faults.registry import Outcome, point

BEGIN = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from tests.faults.starts import train
"""
SCRIPTS = {
    "without a guard": "train({folder!r})",
    "in a thread": "import threading; t = threading.Thread(target=train, args=({folder!r},)); t.start(); t.join()",
    "in a spawned process": """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=train, args=({folder!r},))
    process.start(); process.join(); sys.exit(process.exitcode)
""",
    "in a forked process": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=train, args=({folder!r},))
process.start(); process.join(); sys.exit(process.exitcode)
""",
    "in an event loop": "import asyncio; asyncio.run(asyncio.to_thread(train, {folder!r}))",
    "twice": "train({folder!r}); train({folder!r})",
}


def train(folder):
    """Train six steps."""
    from tests.faults import in_process

    in_process.Fits(folder, test=True, num_steps=6).run("run")


@point(
    "scripts without a guard, threads, spawned and forked processes, event loops: training ends normally",
    0,
    len(SCRIPTS),
)
def unusual(trials, rng, folder):
    failures = []
    for name, text in list(SCRIPTS.items())[:trials]:
        place = folder / name.replace(" ", "_")
        place.mkdir()
        jobs.faces(place)
        script = BEGIN.format(root=str(programs.ROOT), tests=str(programs.ROOT / "tests")) + text.format(
            folder=str(place)
        )
        (place / "script.py").write_text(script)
        command = (sys.executable, str(place / "script.py"))
        env = programs.environment() | {
            "PYTHONPATH": os.pathsep.join((str(programs.ROOT), str(programs.ROOT / "tests")))
        }
        try:
            done = subprocess.run(command, env=env, cwd=place, capture_output=True, text=True, timeout=jobs.TIMEOUT)
        except subprocess.TimeoutExpired:
            failures.append(f"{name}: does not end")
            continue
        if done.returncode or not (place / "run" / "results.json").exists():
            failures.append(f"{name}: {done.returncode} {done.stderr[-300:]}")
    return Outcome(trials, failures)
