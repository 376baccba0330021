"""Ensembles with a bad member: an error that names the member, from launch.evaluate and from predictors."""

import shutil

import pytest
import tiny_runs

from agegender_jax import models
from agegender_jax.errors import UserError
from agegender_jax.prediction.members import from_runs
from agegender_jax.run import evaluate
from tests.faults.registry import Outcome, point

OPTIONS = {"source": None, "split": None, "checkpoint": "best", "allow_leak": False, "draw": False}
CLASSES = 101  # of age, in a run of another label space


def _damaged(run, folder):
    for path in run.glob("checkpoints/*/state/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_checkpoint(run, folder):
    shutil.rmtree(run / "checkpoints")


def _of_other_labels(run, folder):
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(folder / "other labels" / "checkpoints", run / "checkpoints")


def _config_of_another_net(run, folder):
    for path in (run / "config.json", *run.glob("checkpoints/*/config.json")):
        path.write_text(path.read_text().replace('"levi_hassner"', '"resnet18"'))


def _no_config(run, folder):
    for path in (run / "config.json", *run.glob("checkpoints/*/config.json")):
        path.unlink()


def _twice(run, folder):
    shutil.rmtree(run)
    run.symlink_to(folder / "good")


def _absent(run, folder):
    shutil.rmtree(run)


def _a_file(run, folder):
    shutil.rmtree(run)
    run.write_text("")


KINDS = (_damaged, _no_checkpoint, _of_other_labels, _config_of_another_net, _no_config, _twice, _absent, _a_file)


def make_runs(folder):
    """Make the runs `good`, `bad` and `other labels` below `folder`."""
    config = tiny_runs.make_config(folder, 12)
    for name in ("good", "bad"):
        tiny_runs.make_run(folder / name, config, test=False)
    from_config = models.from_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "from_config", lambda fields: from_config(fields).clone(num_age_classes=CLASSES))
        tiny_runs.make_run(folder / "other labels", config, test=False)


@point("an ensemble with a bad, missing or repeated member: an error that names it", push=0, release=2 * len(KINDS))
def refused(trials, rng, folder):
    make_runs(folder)
    failures = []
    for i in range(trials):
        place, bad = KINDS[i % len(KINDS)], folder / f"member{i}"
        shutil.copytree(folder / "bad", bad)
        place(bad, folder)
        runs = [str(folder / "good"), str(bad)]
        try:
            if i < len(KINDS):
                evaluate.evaluate(runs, out=str(folder / f"out{i}"), **OPTIONS)
            else:
                from_runs(runs)
            failures.append(f"{place.__name__}: nothing is said")
        except UserError as error:
            named = (str(bad), str(folder / "good")) if place is _twice else (str(bad),)
            failures += [] if any(name in str(error) for name in named) else [f"{place.__name__}: {error}"]
        except Exception as error:
            failures.append(f"{place.__name__}: {type(error).__name__} {error}")
    return Outcome(trials, failures)
