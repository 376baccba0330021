"""A stop at every boundary between two steps, and a resumption there: no difference from an uninterrupted run."""

import shutil

from tests.faults import in_process, jobs
from tests.faults.registry import Outcome, point

CODE = 75


class Stops:
    """Trainings that stop after chosen steps, as after a signal."""

    def __init__(self, folder, net, num_steps):
        from agegender_jax.run.training import loop

        self.fits = in_process.Fits(folder, net, num_steps=num_steps, checkpoint__every_steps=num_steps)
        self.step, requested = 0, loop.stop_requested
        loop.stop_requested = lambda step, *args: requested(step, *args) or CODE * (step == self.step)

    def failure(self, workdir, step):
        """Stop a run after a step, 0 for never; return what was not as promised."""
        self.step = step
        code, text = self.fits.code_of(workdir)
        stopped = f"stopped at step {step} after saving; the same command resumes"
        return "" if (code, text) == ((CODE, stopped) if step else (0, "")) else f"{step}: {code} {text}"

    def compare(self, workdir, expected, step):
        path = self.fits.folder / workdir
        got = in_process.state(path)
        names = [name for name in sorted(got | expected) if got.get(name) != expected.get(name)]
        shutil.rmtree(path)
        return f"{step}: {', '.join(names[:6])}" if names else ""


def stop_at_each(folder, net, num_steps, steps):
    """Stop one run at each step and resume it to its end."""
    stops = Stops(folder, net, num_steps)
    stops.failure("undisturbed", 0)
    expected, failures = in_process.state(stops.fits.folder / "undisturbed"), []
    for step in steps:
        failures += [stops.failure("run", step), stops.failure("run", 0), stops.compare("run", expected, step)]
    return [failure for failure in failures if failure]


def stop_at_all(folder, net, num_steps, steps):
    """Stop one run at all the steps, one after another."""
    stops = Stops(folder, net, num_steps)
    stops.failure("undisturbed", 0)
    expected = in_process.state(stops.fits.folder / "undisturbed")
    failures = [stops.failure("run", step) for step in (*steps, 0)] + [stops.compare("run", expected, "all")]
    return [failure for failure in failures if failure]


def register(part, parts=4, last=59):
    """Register every fourth boundary of a run of 60 steps, from `part` on."""
    steps = list(range(part, last + 1, parts))

    def each(trials, rng, folder):
        return Outcome(trials, jobs.call(stop_at_each, str(folder), "ran", last + 1, steps[:trials]))

    what = "a stop after each step of a run, and a resumption there: bit for bit as if undisturbed"
    point(what, push=0, release=len(steps), variant=f"{part}, {part + parts}, ...")(each)


for part in range(1, 5):
    register(part)


@point("one run stopped after every step in turn: bit for bit as if undisturbed", push=9, release=59)
def all_in_one_run(trials, rng, folder):
    return Outcome(trials, jobs.call(stop_at_all, str(folder), "resnet", trials + 1, list(range(1, trials + 1))))
