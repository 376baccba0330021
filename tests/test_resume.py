"""A run that is killed, stopped or interrupted ends as one that was left alone."""

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
    synthetic.write_faces(folder / "faces", 240, seed=0, size=32)
    return (
        *programs.SMALL,
        f"--config.data.source={folder / 'faces'}",
        f"--config.data.cache_dir={folder / 'cache'}",
        "--config.optimizer.ema=0.9",
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
    ends = [
        programs.run_until(step, how, workdir, *arguments)
        for step, how in ((5, "SIGKILL"), (20, "SIGTERM"), (40, "SIGINT"))
    ]
    assert [code for code, _ in ends] == [-9, 75, 130]
    for _, errors in ends[1:]:
        assert re.search(r"^stopped at step \d+ after saving; the same command resumes$", errors, re.MULTILINE), errors
    done = programs.run("train", *arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert programs.lasting(workdir) == programs.lasting(undisturbed)
    got, want = (load_variables(place / "checkpoints", "latest") for place in (workdir, undisturbed))
    assert got[2] == want[2] == 60
    jax.tree.map(np.testing.assert_array_equal, got[0], want[0])
    assert (workdir / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()


def test_metrics_have_every_step_once(undisturbed):
    rows = programs.rows(undisturbed)
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == sorted(set(steps)) and set(range(5, 61, 5)) <= set(steps)
    assert [row["step"] for row in rows if row["split"] == "val"] == [12, 24, 36, 48, 60]
    for row in rows:
        assert {"epoch", "loss", "loss_age", "loss_gender", "age_accuracy", "gender_accuracy"} <= set(row)
        assert {"train": {"lr", "images_per_second", "data_wait"}, "val": {"aabd", "collapsed"}}[row["split"]] <= set(
            row
        )


def test_the_same_command_on_a_finished_run_does_nothing(arguments, undisturbed):
    before = (undisturbed / "results.json").stat().st_mtime_ns
    (undisturbed / "MODEL_CARD.md").unlink()  # as of a run of before there were cards
    done = programs.run("train", *arguments, f"--workdir={undisturbed}")
    assert done.returncode == 0 and "already finished" in done.stdout
    assert (undisturbed / "results.json").stat().st_mtime_ns == before
    assert (undisturbed / "MODEL_CARD.md").exists()


def test_more_steps_and_another_driver_go_on(arguments, undisturbed, tmp_path):
    changed = ("--config.num_steps=70", "--config.parallel=pmap", "--config.data.num_workers=0")
    done = programs.run("train", *arguments, *changed, f"--workdir={undisturbed}")
    assert done.returncode == 0, done.stderr
    assert "resumed at step 60" in done.stdout and programs.rows(undisturbed)[-1]["step"] == 70


def test_another_config_is_refused_with_the_difference(arguments, undisturbed):
    done = programs.run("train", *arguments, "--config.optimizer.lr=0.1", f"--workdir={undisturbed}")
    assert done.returncode == 2 and "optimizer.lr: 0.005 -> 0.1" in done.stderr
