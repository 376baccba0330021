"""Outputs that nobody reads or that cannot be written: training continues."""

import errno
import os
import threading

from tests.faults import disturbed, in_process, jobs
from tests.faults.registry import Outcome, point

STEPS = 12


@point("stdout closed after 0 to 20 lines, as by head, or /dev/full: the run ends normally", push=0, release=8)
def closed(trials, rng, folder):
    setting = disturbed.Setting()
    codes, (_, errors) = setting.finish(folder, "undisturbed", num_steps=STEPS)
    failures, expected = [errors] if any(codes) else [], jobs.outcome(folder / "undisturbed")
    for i in range(trials):
        stdout, lines = folder / f"pipe{i}", rng.choice((0, 1, 2, 5, 20))
        if i % 4 == 3:
            stdout = "/dev/full"
        else:
            os.mkfifo(stdout)
            threading.Thread(target=_read, args=(stdout, lines), daemon=True).start()
        (child,) = setting.start(folder, f"run{i}", stdout=stdout, num_steps=STEPS)
        code = child.wait(jobs.TIMEOUT)
        names = jobs.differences(folder / f"run{i}", expected) if code == 0 else []
        failures += [f"{stdout}, {lines} lines: {code}, {', '.join(names[:6])}"] if code or names else []
    return Outcome(trials, failures)


def _read(path, lines):
    with open(path) as file:
        for _ in range(lines):
            file.readline()


def lose_events(folder, trials):
    """Let the disk of TensorBoard's events be full from the first, the twentieth, ... number on."""
    from tensorboardX.record_writer import RecordWriter

    failures, left, write = [], [0], RecordWriter.write

    def failing(writer, data):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, data)

    fits = in_process.Fits(folder, num_steps=2 * STEPS, log__every_steps=1)
    fits.run("undisturbed")
    expected = in_process.state(fits.folder / "undisturbed")
    RecordWriter.write = failing
    for i in range(trials):
        left[0] = 1 + 20 * i
        code, text = fits.code_of(f"run{i}")
        got = in_process.state(fits.folder / f"run{i}")
        names = [name for name in sorted(got | expected) if got.get(name) != expected.get(name)]
        failures += [f"row {i}: {code} {text} {', '.join(names[:6])}"] if code or names else []
    return failures


@point("events for TensorBoard that cannot be written: the training continues without them", push=0, release=5)
def events(trials, rng, folder):
    return Outcome(trials, jobs.call(lose_events, str(folder), trials))
