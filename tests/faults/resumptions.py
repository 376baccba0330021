"""Resumptions with other devices, at the end of a run and beyond it."""

import programs

from tests.faults import disturbed, jobs
from tests.faults.registry import Outcome, point

COUNTS = (1, 2, 4, 1)
STEPS = (12, 24, 36, 48)
RTOL = 1e-4  # of each loss


def rows_by_step(workdir):
    return {row["step"]: row["loss"] for row in programs.rows(workdir) if row["split"] == "train"}


@point("resumed with 1, 2, 4 and 1 devices: the losses of one device, up to rounding", push=0, release=4)
def devices(trials, rng, folder):
    fields = {"model__dropout": 0.0, "optimizer__schedule": "constant", "optimizer__lr": 1e-4, "log__every_steps": 1}
    codes, _ = disturbed.Setting().finish(folder, "one", num_steps=STEPS[-1], **fields)
    failures = [] if codes == [0] else [f"one device: {codes}"]
    for count, steps in zip(COUNTS, STEPS, strict=True):
        codes, (output, errors) = disturbed.Setting(devices=count).finish(folder, "many", num_steps=steps, **fields)
        failures += [f"{count} devices: {codes} {errors[-300:]}"] if codes != [0] else []
        resumed = f"resumed at step {steps - STEPS[0]} of {steps}" in output or count == steps / STEPS[0] == 1
        failures += [] if resumed else [f"{count} devices: {output[:300]}"]
    one, many = rows_by_step(folder / "one"), rows_by_step(folder / "many")
    worst = max(abs(one[step] / many[step] - 1) for step in one)
    failures += [] if one.keys() == many.keys() and worst < RTOL else [f"the losses differ by {worst:.1e}"]
    return Outcome(trials, failures, {"largest_relative_difference_of_a_loss": float(f"{worst:.1e}")})


@point("a batch that the devices cannot share evenly: exit 2", push=0, release=1)
def uneven(trials, rng, folder):
    code, _, errors = jobs.train(*jobs.arguments(folder, "run"), devices=3)
    right = code == 2 and "batch_size 8 cannot be shared evenly by 3 devices" in errors and errors.count("\n") == 3
    return Outcome(1, [] if right else [f"{code} {errors}"])


@point(
    "a finished run: repeating it does nothing, a longer one continues, a shorter one does nothing", push=0, release=3
)
def finished(trials, rng, folder):
    setting, failures = disturbed.Setting(), []
    for steps, text in (
        (12, ""),
        (12, "already finished at step 12"),
        (18, "resumed at step 12 of 18"),
        (6, "already finished at step 18"),
    ):
        codes, (output, errors) = setting.finish(folder, "run", num_steps=steps)
        if codes != [0] or text not in output:
            failures.append(f"{steps} steps: {codes} {output[:300]} {errors[-300:]}")
    steps = [row["step"] for row in programs.rows(folder / "run") if row["split"] == "train"]
    failures += [] if steps == list(range(2, 19, 2)) else [f"steps {steps}"]
    return Outcome(trials, failures)
