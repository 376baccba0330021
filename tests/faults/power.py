"""Power cuts: files are on disk before a rename makes them visible, as the system calls of a run show."""

import re
import shutil
import subprocess
import sys

import programs

from tests.faults import jobs
from tests.faults.registry import Outcome, point

CALLS = "fsync,fdatasync,rename,renameat,renameat2"
RENAMED = re.compile(r'^(\d+) .*rename(?:at2?)?\(.*?"([^"]+)",.*?"([^"]+)".* = 0')


def unsynced(text, workdir):
    """Return the renames in the output of strace of files and folders whose content was not synced before."""
    synced, renames, failures = set(), 0, []
    for line in text.splitlines():
        if match := re.search(r"f(?:data)?sync\(\d+<([^>]+)>", line):
            synced.add(match[1])
        elif (match := RENAMED.match(line)) and workdir in match[3]:
            source, target = match[2], match[3]
            if source.rpartition("/")[2].isdecimal():  # an older step that is moved aside
                continue
            renames += 1
            if source not in synced:
                failures.append(f"{source} -> {target}")
    return renames, failures


@point("files in a workdir are synced before a rename shows them (strace)", push=0, release=1)
def synced(trials, rng, folder):
    if not shutil.which("strace"):
        return Outcome(0, skipped="strace is not installed")
    trace = folder / "trace"
    prefix = ("strace", "-f", "-y", "-s", "400", "-o", str(trace), "-e", f"trace={CALLS}")
    arguments = jobs.arguments(folder, "run", num_steps=12)
    command = (*prefix, sys.executable, "-m", "launch.train", *map(str, arguments))
    done = subprocess.run(command, cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True)
    if done.returncode:
        return Outcome(1, [f"exit code {done.returncode}: {done.stderr[-300:]}"])
    renames, failures = unsynced(trace.read_text(), str(folder / "run"))
    return Outcome(max(renames, 1), failures if renames else ["no rename was seen"])
