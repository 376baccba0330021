"""kill -9 at random moments of a run: the same command ends it bit for bit like an undisturbed run."""

import itertools
import time

from tests.faults import disturbed, jobs
from tests.faults.registry import Outcome, point

KILLS = 10
WHAT = (
    "kill -9 at random moments of a run: parameters, statistics, average, optimizer and log bit for bit as if "
    "undisturbed"
)
_undisturbed: dict[tuple, tuple[dict, float]] = {}


def undisturbed(setting, folder):
    """Return the outcome of an undisturbed run, and the seconds until its first step; both drivers have the same."""
    key = setting.net, setting.devices, setting.processes
    if key not in _undisturbed:
        begun = time.monotonic()
        children = setting.start(folder, "undisturbed")
        disturbed.wait_for_step(children, folder / "undisturbed", 1)
        startup = time.monotonic() - begun
        codes = [child.wait(jobs.TIMEOUT) for child in children]
        assert not any(codes), (codes, children[0].outputs())
        _undisturbed[key] = jobs.outcome(folder / "undisturbed"), startup
    return _undisturbed[key]


def measure(setting, own_cache, trials, rng, folder):
    """Kill runs until `trials` kills are done; after KILLS kills, or when it ends before one, a run is compared."""
    expected, startup = undisturbed(setting, folder)
    shared, failures, killed, runs = disturbed.shared_memory(), [], 0, 0
    fields = {"data__cache_dir": folder / "own cache"} if own_cache else {}
    while killed < trials:
        workdir, problems = folder / f"run{runs}", []
        for _ in range(min(KILLS, trials - killed)):
            children = setting.start(folder, workdir.name, **fields)
            disturbed.wait_at_random(rng, children, workdir, startup)
            if not disturbed.kill_one(rng, children):
                break
            killed += 1
            problems += [f"orphan {pid}" for pid in disturbed.orphans(children)]
        codes, (_, errors) = setting.finish(folder, workdir.name, **fields)
        problems += [f"exit codes {codes}: {errors[-300:]}"] if any(codes) else jobs.differences(workdir, expected)
        problems += [f"{name} is left" for name in disturbed.leftovers(workdir)]
        failures += [f"run {runs}: {', '.join(problems[:6])}"] if problems else []
        runs += 1
    failures += [f"shared memory {name} is left" for name in disturbed.abandoned(shared)]
    return Outcome(trials, failures, {"runs": runs, "compared": len(expected)})


def register(setting, number):
    """Register a run of a setting; the second one has a cache of its own, so that its preparation is killed too."""

    def random(trials, rng, folder):
        return measure(setting, number == 2, trials, rng, folder)

    point(WHAT, push=0, release=KILLS, variant=f"{setting}, run {number}")(random)


for number, *fields in itertools.product((1, 2), ("ran", "resnet"), ("shard_map", "pmap"), (1, 2)):
    register(disturbed.Setting(*fields), number)
for fields in itertools.product(("ran", "resnet"), ("shard_map", "pmap")):
    register(disturbed.Setting(*fields, devices=1, processes=2), 1)
