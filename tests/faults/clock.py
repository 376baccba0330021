"""Clocks that are set, and processes that are stopped for a while."""

import random
import re
import signal
import time

import programs

from tests.faults import disturbed, in_process, jobs, kills
from tests.faults.registry import Outcome, point

NEGATIVE = re.compile(r"(ETA|images/s|wait) -|-\d+ images/s")


def set_clock(folder, trials, seed):
    """Train while the clock of the day jumps between 1970 and 2100."""
    rng, failures, now = random.Random(seed), [], time.time
    fits = in_process.Fits(folder, num_steps=24)
    fits.run("undisturbed")
    expected = in_process.state(fits.folder / "undisturbed")
    time.time = lambda: now() + rng.uniform(-1.7e9, 2.4e9)
    for i in range(trials):
        code, text = fits.code_of(f"run{i}")
        got, rows = in_process.state(fits.folder / f"run{i}"), programs.rows(fits.folder / f"run{i}")
        names = [name for name in sorted(got | expected) if got.get(name) != expected.get(name)]
        failures += [f"run {i}: {code} {text} {', '.join(names[:6])}"] if code or names else []
        failures += [
            f"run {i}: {row}" for row in rows if row.get("images_per_second", 0) < 0 or row.get("data_wait", 0) < 0
        ]
    return failures


@point("the clock of the day set back and forth during a run: no difference, no negative rate", push=0, release=5)
def jumps(trials, rng, folder):
    return Outcome(trials, jobs.call(set_clock, str(folder), trials, rng.random()))


@point("SIGSTOP for up to 20 s, then SIGCONT: bit for bit as if undisturbed, no negative rate or remaining time", 0, 5)
def stopped(trials, rng, folder):
    setting = disturbed.Setting()
    expected, startup = kills.undisturbed(setting, folder)
    (child,) = setting.start(folder, "run")
    done = 0
    for seconds in (20, *(rng.uniform(0, 3) for _ in range(trials - 1))):
        disturbed.wait_at_random(rng, [child], folder / "run", startup)
        if child.poll() is None:
            child.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            child.send_signal(signal.SIGCONT)
            done += 1
    code, (output, errors) = child.wait(jobs.TIMEOUT), child.outputs()
    failures = [f"exit code {code}: {errors[-300:]}"] if code else jobs.differences(folder / "run", expected)
    return Outcome(done, failures + NEGATIVE.findall(output))
