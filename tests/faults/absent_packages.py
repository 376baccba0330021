"""Optional packages that are not installed: what needs one names the pip command, everything else works."""

import re

import test_extras

from agegender_jax import extras
from tests.faults.commands import ROOT
from tests.faults.registry import Outcome, point

ARGUMENTS = {  # of commands, with which each ends soon: what they name does not exist
    "ablate": ("--config=ran", "--config.data.source=nosuch", "--vary=seed=0,1", "--workdir=out"),
    "align": ("nosuch.jpg", "--out=out"),
    "audit": ("--source=nosuch", "--out=out"),
    "baselines": ("--config=baselines", "--config.data.source=nosuch", "--workdir=out"),
    "calibrate": ("--workdir=nosuch",),
    "demo": ("--weights=nosuch",),
    "evaluate": ("--workdir=nosuch",),
    "explain": ("nosuch.jpg", "--workdir=nosuch", "--out=out"),
    "predict": ("nosuch.jpg", "--out=out"),
    "train": ("--config=ran", "--config.data.source=nosuch", "--workdir=out"),
}


def extra_of(command):
    """Return the extra that a command needs."""
    text = (ROOT / "agegender_jax" / "cli" / f"{command}.py").read_text()
    return re.search('^EXTRA = "(.*)"', text, re.MULTILINE)[1]


def cases():
    """Return (command, absent modules): each module that a command needs, and for each command all that it does not."""
    needed = {command: set(extras.EXTRAS[extra_of(command)]) & test_extras.ABSENT for command in ARGUMENTS}
    needed["baselines"] |= set(extras.EXTRAS["baselines"])
    modules = sorted(set().union(*needed.values()))
    singles = []
    for i, module in enumerate(modules):
        users = [command for command in ARGUMENTS if module in needed[command]]
        singles.append((users[i % len(users)], {module}))
    return singles + [(command, test_extras.ABSENT - needed[command]) for command in ARGUMENTS]


CASES = cases()


@point(
    "an optional package is missing: exit 2 with the pip command if it is needed, otherwise no effect", 0, len(CASES)
)
def named(trials, rng, folder):
    failures = []
    for command, absent in CASES[:trials]:
        place = folder / f"{command} {len(absent)} {min(absent)}"
        place.mkdir()
        done = test_extras.python(test_extras.COMMAND, absent, command, *ARGUMENTS[command], cwd=place)
        label, needed = f"{command} without {', '.join(sorted(absent))}", len(absent) == 1
        lines = [f"agegender-jax[{extra}]'" for extra, modules in extras.EXTRAS.items() if min(absent) in modules]
        hint = f"not installed: {min(absent)}\n" in done.stderr and any(line in done.stderr for line in lines)
        if done.returncode not in ((2,) if needed else (2, 3, 4)) or len(done.stderr.splitlines()) != 3:
            failures.append(f"{label}: {done.returncode} {done.stderr[-400:]}")
        elif hint != needed or "not installed" in done.stderr and not needed:
            failures.append(f"{label}: {done.stderr[-400:]}")
        failures += [f"{label}: {path.name} was written" for path in place.iterdir()] if needed else []
    return Outcome(len(CASES[:trials]), failures)
