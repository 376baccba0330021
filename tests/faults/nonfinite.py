"""NaN or infinity at a random step of trainings, under each policy: the promised end, and no bad number is saved."""

import random
import shutil

import programs

from tests.faults import in_process, jobs
from tests.faults.registry import Outcome, point

STEPS, INTERVAL = 24, 6
SETUPS = (("resnet", "shard_map", 1), ("resnet", "pmap", 2), ("ran", "shard_map", 2), ("ran", "pmap", 1))
PLACES, POLICIES = ("loss", "params", "batch_stats", "ema", "opt_state"), ("stop", "skip", "rollback")
ENDS = {"stop": (5,), "skip": (0, 5), "rollback": (0,)}  # a bad state cannot be skipped


class Spoiled:
    """Trainings with one bad number; `place` and `step` say where and when, and `times` how often that step gets it."""

    def __init__(self, folder, net, policy, parallel):
        fields = {"train__on_nonfinite": policy, "parallel": parallel}
        self.fits = in_process.Fits(folder, net, num_steps=STEPS, checkpoint__every_steps=INTERVAL, **fields)
        self.place, self.step, self.value, self.left = "", 0, 0.0, 0
        make_driver = self.fits.module.make_driver

        def make_spoiled(*args, **options):
            driver = make_driver(*args, **options)
            step = getattr(driver, "unspoiled", driver.step)
            driver.unspoiled, driver.step = step, lambda state, batch: step(self.spoil(state), batch)
            return driver

        self.fits.module.make_driver = make_spoiled

    def spoil(self, state):
        import jax

        if int(state.step) + 1 != self.step or not self.left:
            return state
        self.left -= 1

        def first(leaf):
            return leaf.at[(0,) * leaf.ndim].set(self.value)

        if self.place == "loss":
            return state.replace(sums=state.sums | {"loss": first(state.sums["loss"])})
        leaves, structure = jax.tree.flatten(getattr(state, self.place))
        index = max(range(len(leaves)), key=lambda i: leaves[i].size)
        return state.replace(
            **{self.place: jax.tree.unflatten(structure, [first(x) if i == index else x for i, x in enumerate(leaves)])}
        )

    def failure(self, policy, place, step, value):
        """Train once; return what was not as promised."""
        self.place, self.step, self.value, self.left = place, step, float(value), 1
        code, text = self.fits.code_of("run")
        path = self.fits.folder / "run"
        wrong = [] if code in ENDS[policy] and "Traceback" not in text else [f"exit {code} {text}"]
        wrong += [f"checkpoint {name} is not finite" for name in bad_checkpoints(path)]
        steps = [row["step"] for row in programs.rows(path) if row["split"] == "train"]
        wrong += [] if steps == list(range(2, len(steps) * 2 + 1, 2)) else [f"log of steps {steps}"]
        wrong += [] if code or steps[-1:] == [STEPS] else ["the run is not complete"]
        shutil.rmtree(path)
        return f"{policy}, {value} in {place} at step {step}: {'; '.join(wrong)}" if wrong else ""


def bad_checkpoints(path):
    """Return the names of the checkpoints that hold a number that is not finite."""
    import numpy as np

    from agegender_jax.checkpoint import reading, tree

    bad = []
    for folder in path.glob("checkpoints/*"):
        arrays = tree.read(folder / reading.STATE, tree.shapes(folder / reading.STATE))
        if not all(np.isfinite(value).all() for value in tree.named_leaves(arrays).values()):
            bad.append(folder.name)
    return bad


def spoil_each(folder, net, policy, parallel, cases):
    """Train once for each (place, step, value)."""
    spoiled = Spoiled(folder, net, policy, parallel)
    return [failure for case in cases if (failure := spoiled.failure(policy, *case))]


def measure(trials, rng: random.Random, folder, policy):
    """Spread the trials over the nets, drivers and numbers of devices."""
    failures = []
    for i, (net, parallel, devices) in enumerate(SETUPS[:trials]):
        count = len(range(i, trials, len(SETUPS)))
        cases = [(PLACES[(i + j) % 5], rng.randint(1, STEPS), rng.choice(("nan", "inf"))) for j in range(count)]
        failures += jobs.call(spoil_each, str(folder), net, policy, parallel, cases, devices=devices)
    return Outcome(trials, failures)


@point("NaN or infinity in a state or loss, policy stop: exit 5, no bad number saved", push=0, release=20)
def stop(trials, rng, folder):
    return measure(trials, rng, folder, "stop")


@point("NaN or infinity in a state or loss, policy skip: exit 5 or 0, no bad number saved", push=0, release=20)
def skip(trials, rng, folder):
    return measure(trials, rng, folder, "skip")


@point("NaN or infinity in a state or loss, policy rollback: a complete log, no bad number saved", push=0, release=20)
def rollback(trials, rng, folder):
    return measure(trials, rng, folder, "rollback")
