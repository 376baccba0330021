"""Signals in every phase of a run: exit within ten seconds with everything saved; a second one leaves at once."""

import signal
import time

import programs

from tests.faults import disturbed, jobs, kills
from tests.faults.registry import Outcome, point

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGHUP: 75}
LONGEST = 10.0  # seconds
PER_RUN = 8
WHAT = (
    "SIGTERM, SIGINT or SIGHUP in any phase, one in four twice: exit 75 or 130 within 10 s; bit for bit as if "
    "undisturbed"
)


def handles_signals(child):
    """Return whether the program has come to where it handles SIGTERM; before, a signal ends any program."""
    try:
        with open(f"/proc/{child.pid}/status") as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return bool(caught >> signal.SIGTERM - 1 & 1)


def send(rng, children):
    """Send a signal to one process, perhaps twice; return its name, what was wrong and the seconds to the end."""
    number, twice = rng.choice(list(CODES)), rng.random() < 0.25
    name = f"{number.name} twice" if twice else number.name
    chosen = rng.choice(children)
    if any(child.poll() is not None for child in children):
        return name, "", None
    begun = time.monotonic()
    chosen.send_signal(number)
    if twice:
        time.sleep(1.2)
        chosen.send_signal(number)
    codes = [child.wait(jobs.TIMEOUT) for child in children]
    seconds, errors = time.monotonic() - begun, children[0].outputs()[1]
    if not any(codes):  # it had ended by itself
        return name, "", None
    if set(codes) != {CODES[number]} and not (twice and len(children) > 1):
        return name, f"exit codes {codes}: {errors[-300:]}", seconds
    if "Traceback" in errors and not twice:
        return name, f"stack trace: {errors[-300:]}", seconds
    return name, f"{seconds:.1f} s" if seconds > LONGEST else "", seconds


def measure(setting, trials, rng, folder):
    """Stop runs until `trials` signals have arrived; after PER_RUN of them a run is completed and compared."""
    expected, startup = kills.undisturbed(setting, folder)
    failures, seconds, runs = [], [], 0
    while len(seconds) < trials:
        workdir, problems = folder / f"run{runs}", []
        for _ in range(min(PER_RUN, trials - len(seconds))):
            children = setting.start(folder, workdir.name)
            while not all(handles_signals(child) or child.poll() is not None for child in children):
                time.sleep(0.01)
            disturbed.wait_at_random(rng, children, workdir, startup)
            step = disturbed.last_step(workdir)
            name, problem, taken = send(rng, children)
            problems += [f"{name} after step {step}: {problem}"] if problem else []
            if taken is None:
                break
            seconds.append(taken)
        codes, (_, errors) = setting.finish(folder, workdir.name)
        problems += [f"exit codes {codes}: {errors[-300:]}"] if any(codes) else jobs.differences(workdir, expected)
        problems += [f"{name} is left" for name in disturbed.leftovers(workdir)]
        failures += [f"run {runs}: {', '.join(problems[:6])}"] if problems else []
        runs += 1
    return Outcome(trials, failures, {"runs": runs, "slowest_s": round(max(seconds), 1)})


def register(setting, release):
    def stop(trials, rng, folder):
        return measure(setting, trials, rng, folder)

    point(WHAT, push=0, release=release, variant=str(setting))(stop)


register(disturbed.Setting("resnet", "shard_map"), 24)
register(disturbed.Setting("ran", "pmap", 2), 16)
register(disturbed.Setting("resnet", "pmap", 1, 2), 10)


@point("SIGHUP to a program that nohup started: it continues", push=0, release=2)
def nohup(trials, rng, folder):
    failures = []
    for i in range(trials):
        jobs.faces(folder)
        arguments = jobs.arguments(folder, f"run{i}", num_steps=6 + i)
        child = programs.fork("tests.faults.child", *jobs.patched(ignore_hangups), *arguments)
        disturbed.wait_for_step([child], folder / f"run{i}", 2)
        child.send_signal(signal.SIGHUP)
        if child.wait(jobs.TIMEOUT):
            failures.append(f"run {i}: {child.code} {child.outputs()[1][-300:]}")
    return Outcome(trials, failures)


def ignore_hangups():
    """Ignore SIGHUP, as nohup does before the program starts."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
