"""A run that is killed and stopped ends bit for bit like an undisturbed one."""

import re

import jax
import numpy as np
import programs
import pytest

from agegender_jax import synthetic
from agegender_jax.checkpoint import load_variables


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_faces(folder / "faces", 120, seed=0, size=32)
    return (
        "--config=tests/small_resnet_config.py",
        f"--config.data.source={folder / 'faces'}",
        f"--config.data.cache_dir={folder / 'cache'}",
        "--config.optimizer.ema=0.9",
        "--config.deterministic=true",  # changes nothing on CPUs
    )


@pytest.fixture(scope="module")
def undisturbed(arguments, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = programs.run("train", *arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.timeout(600)
def test_interrupted_runs_end_bit_identical(arguments, undisturbed, tmp_path):
    workdir = tmp_path / "disturbed"
    assert programs.run_until(5, "SIGKILL", workdir, *arguments)[0] == -9
    code, errors = programs.run_until(8, "SIGTERM", workdir, *arguments)
    assert code == 75
    assert re.search(r"^stopped at step \d+ after saving; the same command resumes$", errors, re.MULTILINE), errors
    done = programs.run("train", *arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert programs.reproducible_rows(workdir) == programs.reproducible_rows(undisturbed)
    actual, expected = (load_variables(path / "checkpoints", "latest") for path in (workdir, undisturbed))
    assert actual[2] == expected[2] == 28
    jax.tree.map(np.testing.assert_array_equal, actual[0], expected[0])
    assert (workdir / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()


def test_metrics_have_every_step_once(undisturbed):
    rows = programs.rows(undisturbed)
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == sorted(set(steps)) and set(range(2, 29, 2)) <= set(steps)
    assert [row["step"] for row in rows if row["split"] == "val"] == [6, 12, 18, 24, 28]
    for row in rows:
        assert {"epoch", "loss", "loss_age", "loss_gender", "age_accuracy", "gender_accuracy"} <= set(row)
        fields = {"train": {"lr", "images_per_second", "data_wait"}, "val": {"aabd", "collapsed"}}
        assert fields[row["split"]] <= set(row)


def test_the_same_command_on_a_finished_run_does_nothing(arguments, undisturbed):
    before = (undisturbed / "results.json").stat().st_mtime_ns
    (undisturbed / "MODEL_CARD.md").unlink()  # as in a run of an older version
    done = programs.run("train", *arguments, f"--workdir={undisturbed}")
    assert done.returncode == 0 and "already finished" in done.stdout
    assert (undisturbed / "results.json").stat().st_mtime_ns == before
    assert (undisturbed / "MODEL_CARD.md").exists()


def test_a_longer_run_continues_with_another_driver_and_warns_of_the_new_rate(arguments, undisturbed):
    changed = ("--config.num_steps=32", "--config.parallel=pmap", "--config.data.num_workers=0")
    done = programs.run("train", *arguments, *changed, f"--workdir={undisturbed}")
    assert done.returncode == 0, done.stderr
    assert "resumed at step 28" in done.stdout and programs.rows(undisturbed)[-1]["step"] == 32
    assert "WARNING: the run now has 32 steps instead of 28" in done.stdout


def test_another_config_is_refused_with_the_difference(arguments, undisturbed):
    done = programs.run("train", *arguments, "--config.optimizer.lr=0.1", f"--workdir={undisturbed}")
    assert done.returncode == 2 and "optimizer.lr: 0.005 -> 0.1" in done.stderr
