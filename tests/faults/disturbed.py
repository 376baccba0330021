"""Trainings that are disturbed again and again until they end, and what the faults must not leave behind."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import time

import programs

from tests.faults import jobs

SHARED_MEMORY = pathlib.Path("/dev/shm")
PATIENCE = 60  # seconds for the other process of a run after one was killed


@dataclasses.dataclass
class Setting:
    """A kind of run.

    Attributes:
      net: of tiny_config. driver: shard_map or pmap. devices: of each process.
      processes: of a run, which find each other through a port.
    """

    net: str = "resnet"
    driver: str = "shard_map"
    devices: int = 1
    processes: int = 1

    def __str__(self):
        return f"{self.net}, {self.driver}, {self.processes} x {self.devices}"

    def start(self, folder, workdir, patch=None, stdout=None, **fields):
        """Start all processes of a run in `folder`/`workdir`; return them.

        Args:
          patch: a function of a module and its arguments, called in a single process before the program.
        """
        arguments = jobs.arguments(folder, workdir, self.net, parallel=self.driver, **fields)
        if self.processes == 1:
            name, before = ("tests.faults.child", jobs.patched(*patch)) if patch else ("train", ())
            return [programs.fork(name, *before, *arguments, devices=self.devices, stdout=stdout)]
        port, reservation = programs.reserved_port()
        children = []
        for number in range(self.processes):
            flags = (f"--coordinator=localhost:{port}", f"--num_processes={self.processes}", f"--process_id={number}")
            children.append(programs.fork("train", *arguments, *flags, devices=self.devices))
        children[0].reservation = reservation  # the port stays ours while the run lives
        return children

    def finish(self, folder, workdir, **fields):
        """Run to the end; return the exit codes, and the output of process 0."""
        children = self.start(folder, workdir, **fields)
        try:
            codes = [child.wait(jobs.TIMEOUT) for child in children]
            return codes, children[0].outputs()
        finally:
            for child in children:
                child.kill()


def last_step(workdir):
    return max((row["step"] for row in programs.rows(workdir)), default=0)


def wait_for_step(children, workdir, step):
    """Wait until a row of `step` or later is logged, or a process has ended."""
    deadline = time.monotonic() + jobs.TIMEOUT
    while all(child.poll() is None for child in children) and time.monotonic() < deadline:
        if last_step(workdir) >= step:
            return
        time.sleep(0.02)


def wait_at_random(rng, children, workdir, startup):
    """Wait for a random moment: three in ten while the program starts, the others up to twelve steps later."""
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, startup))
        return
    wait_for_step(children, workdir, last_step(workdir) + rng.randint(1, 12))
    time.sleep(rng.uniform(0, 0.05))


def kill_one(rng, children):
    """Kill one of the processes with SIGKILL; return whether it was still running, once all have ended."""
    victim = rng.choice(children)
    victim.send_signal(signal.SIGKILL)
    killed = victim.wait(60) == -signal.SIGKILL
    for other in children:
        try:
            other.wait(PATIENCE if killed else jobs.TIMEOUT)
        except subprocess.TimeoutExpired:
            other.kill()
    return killed


def leftovers(workdir):
    """Return what must not be in a workdir after the end of a run: halves of files and of checkpoints."""
    path = pathlib.Path(workdir)
    halves = [entry.name for entry in path.iterdir() if entry.name.startswith(".")]
    return halves + [entry.name for entry in (path / "checkpoints").iterdir() if not entry.name.isdecimal()]


def shared_memory():
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.exists() else set()


def abandoned(before):
    """Return the shared memory that is there, was not `before`, and that no process uses after ten seconds."""
    deadline = time.monotonic() + 10
    while left := shared_memory() - before:
        maps = "".join(_text(path) for path in pathlib.Path("/proc").glob("[0-9]*/maps"))
        left = {name for name in left if f"{SHARED_MEMORY}/{name}" not in maps}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)
    return set()


def _text(path):
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


def orphans(children):
    """Return the processes that were started by children that have ended: each child leads a session of its own."""
    sessions = {str(child.pid) for child in children}
    alive = []
    for entry in pathlib.Path("/proc").iterdir():
        fields = _text(entry / "stat").rpartition(")")[2].split() if entry.name.isdecimal() else []
        if fields and fields[3] in sessions and fields[0] != "Z":
            alive.append(entry.name)
    return alive
