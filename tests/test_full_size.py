"""Trainings at full size on a GPU machine, here tiny: failures, time limits, and a dry run of the whole campaign."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import programs
import pytest

from agegender_jax import ensemble, loading
from benchmarks import (
    campaign,
    full_size,
    job,
    pack_faces,
    points,
    resume,
    small_weights,
    tables,
)

TRAINING = """
import json, pathlib, sys, time
workdir = pathlib.Path(sys.argv[-1].partition("=")[2])
deterministic = "--config.deterministic=True" in sys.argv
def log(step, rate):
    with open(workdir / "metrics.jsonl", "a") as file:
        row = {"split": "train", "step": step, "images_per_second": rate, "data_wait": 0.1, "loss": 1.0}
        file.write(json.dumps(row) + chr(10))
workdir.mkdir(exist_ok=True)
model = {"name": "resnet18", "dtype": "float32"}
(workdir / "config.json").write_text(json.dumps({"model": model, "data": {"image_size": 64}, "batch_size": 8}))
(workdir / "run.json").write_text(json.dumps({"devices": {"platform": "gpu", "kind": "x"}, "versions": {}}))
"""
FAILS = """
if deterministic:
    sys.exit("select-and-scatter is not supported")
"""
HANGS = """
if deterministic:
    log(10, 100.0), log(20, 50.0)
    time.sleep(600)
"""
ENDS = """
for step in range(10, 170, 10):
    log(step, 200.0)
(workdir / "checkpoints" / "160").mkdir(parents=True)
time.sleep(600)
"""


def fake_training(folder, program):
    """Write a launch.train below `folder` that runs the program after writing what a run has at its start."""
    (folder / "launch").mkdir()
    (folder / "launch" / "__init__.py").touch()
    (folder / "launch" / "train.py").write_text(TRAINING + program)
    return folder


def test_a_net_is_given_up_at_the_second_start_without_a_step(tmp_path, monkeypatch):
    """A start with steps, and one that was too short for its first step, do not count."""
    starts, checkpoints = [], tmp_path / "ran" / "checkpoints"

    def train(arguments, log, until, environment):
        assert log == tmp_path / "ran.log" and arguments[0] == "--config=configs/best.py:ran,gpu"
        for step in starts.pop(0):
            (checkpoints / str(step)).mkdir(parents=True)
        raise full_size.Unfinished("ran was stopped")

    def start(*steps, error=full_size.Unfinished, match="ran was stopped", fair=0.0):
        starts.append(steps)
        monkeypatch.setattr(full_size, "FAIR", fair)
        with pytest.raises(error, match=match):
            full_size.measure("source", "", "ran", tmp_path, 60.0, [])

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(full_size, "train", train)
    monkeypatch.setattr(pack_faces, "prepare", lambda spec: None)
    start()
    start(10)
    start()
    start(fair=60.0)
    start(20, 30)
    start()
    start(error=RuntimeError, match="ran: no step after 30 in starts of 0 and 0 s; given up")


def test_a_training_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(full_size, "ROOT", fake_training(tmp_path, "sys.exit('no memory')"))
    with pytest.raises(RuntimeError, match="ran, exit code 1: no memory"):
        full_size.train([f"--workdir={tmp_path / 'ran'}"], tmp_path / "ran.log", 1e9, dict(os.environ))


@pytest.mark.parametrize(
    "program, note",
    [
        (FAILS, "whole, exit code 1: select-and-scatter is not supported"),
        (HANGS, "whole: no checkpoint 160, logged 20 steps, no time left"),
        ("", "the training that was to be killed had ended before"),
    ],
)
def test_a_deterministic_training_that_fails_leaves_a_result(program, note, tmp_path, monkeypatch):
    """It has the rate of the other training, and the error."""
    monkeypatch.setattr(resume, "ROOT", fake_training(tmp_path, program + ENDS))
    line = resume.measure([], 6.0)
    assert line["note"] == note and line["equal"] is None and line["plain_images_per_second"] == 200
    assert line.get("of_plain") == (None if program else 1.0) and line["device"] == "gpu"
    row = tables.resumed({"points": {"x": {"result": line}}}).splitlines()[-1]
    assert row.startswith(f"| resnet18 | 64 | 8 | float32 | {line.get('killed_after', '')} |  |") and note in row
    assert note in campaign.summary(line)


def test_a_failed_training_without_determinism_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "ROOT", fake_training(tmp_path, "sys.exit('no memory')"))
    with pytest.raises(RuntimeError, match="plain, exit code 1: no memory"):
        resume.measure([], 60.0)


def test_a_job_says_whether_its_step_was_compiled_before(tmp_path):
    assert job.training_steps(None) == set()
    for name in ("jit_train_step-12ab-cache", "jit_train_step-12ab-atime", "jit_predict-34-cache"):
        (tmp_path / name).touch()
    assert job.training_steps(str(tmp_path)) == {"jit_train_step-12ab-cache"}


def check_net(line, net, tmp_path):
    """The restored run predicts as the trained one does, and takes an evaluation."""
    assert line["n"] == 10 and line["width"] == 0.125
    assert line["command"].startswith(f"python -m launch.train --config=configs/best.py:{net},gpu ")
    assert str(tmp_path) not in line["command"]
    (run,) = (path for path in small_weights.restore(tmp_path / "copied", tmp_path / "restored") if path.name == net)
    trained, again = loading.load(tmp_path / "dry-run" / "faces" / net), loading.load(run)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    probs = [ensemble.predict(model, variables, images) for model, variables, _ in (trained, again)]
    assert np.array_equal(probs[0].age, probs[1].age) and np.array_equal(probs[0].gender, probs[1].gender)
    source = ("--source=synthetic:100", "--split=test")
    done = programs.run("evaluate", f"--workdir={run}", *source, f"--out={tmp_path / 'evaluation' / net}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "evaluation" / net / "results.json").read_text())["models"][0]
    assert scores["aabd"] == line["aabd"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_stopped_training_continues(tmp_path, monkeypatch):
    """At the time limit the training stops; the next start of the same point ends it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", programs.environment()["XLA_FLAGS"])  # mixup needs two images on each device
    point = next(p for p in points.tiny(points.gpu_points(), tmp_path) if p.flags.get("net") == "resnet")
    point = dataclasses.replace(point, fields=point.fields | {"num_epochs": 200, "eval.every_epochs": 200})
    with pytest.raises(campaign.Unfinished, match="resnet was stopped"):
        campaign.run_apart(dataclasses.replace(point, flags=point.flags | {"seconds": 60}), 600.0)
    point = dataclasses.replace(point, flags=point.flags | {"seconds": 900})
    line = campaign.run_apart(point, 1000.0)
    assert line["steps"] == 2000 and line["starts"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch):
    """gpu.sh is cut after its first point and goes on; with PyTorch, if it is installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PACKAGE", str(tmp_path / "none"))
    out, script = tmp_path / "dry.json", programs.ROOT / "benchmarks" / "gpu.sh"
    arguments = ["--dry-run", f"--out={out}", f"--copy_to={tmp_path / 'copied'}"]
    one_device = {"env": programs.environment(), "capture_output": True, "text": True}
    cut = subprocess.run([script, "1", *arguments], **one_device)
    assert cut.returncode == campaign.AGAIN and "not done yet: run again" in cut.stdout, cut.stderr
    assert len(json.loads(out.read_text())["points"]) == 1
    done = subprocess.run([script, "1500", *arguments], **one_device)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + done.stderr
    (limits, *trained, resumed, step, two_epochs, evaluated, kernels, fed, fit) = (
        point["result"] for point in json.loads(out.read_text())["points"].values()
    )
    assert limits["jax"]["matmul_float32"] > 0 and limits["decoded_images_per_second"]["one_thread"] > 0
    for net, line in zip(("resnet", "ran"), trained, strict=True):
        check_net(line, net, tmp_path)
    copied = sorted(path.name for path in (tmp_path / "copied").iterdir())
    assert copied == [
        "dry.json",
        *("faces-ran-ran.00.part", "faces-ran.tar.gz", "faces-resnet-resnet.00.part", "faces-resnet.tar.gz"),
    ]
    assert resumed["equal"] and 40 <= resumed["killed_after"] < 160 and resumed["arrays"] > 20
    assert resumed["of_plain"] > 0 and "note" not in resumed
    for what, line in (("train", step), ("evaluate", evaluated)):
        assert line["what"] == what and line["images_per_second"] > 0
        assert (line["ratio_to_torch"] is None) == (importlib.util.find_spec("torch") is None)
    seconds = two_epochs["first_s"] + 99 * two_epochs["second_s"] + two_epochs["after_s"]
    assert two_epochs["extrapolated_s"] == pytest.approx(seconds) and two_epochs["compile_cached"] is False
    assert two_epochs["images_an_epoch"] == 80 and two_epochs["batch_size"] == 8
    assert 0 < sum(kernel["share"] for kernel in kernels["kernels"]) <= 1 + 1e-9
    assert kernels["gflops"] > 0 and kernels["gb_per_second"] > 0
    assert fed["what"] == "input"
    assert fit["what"] == "fit" and fit["of_step_alone"] > 0
    tables_text = tables.all_of(json.loads(out.read_text()))
    assert "| synthetic | ran56 | 32 | 8 | bfloat16 | 2 |" in tables_text and "| yes |" in tables_text
    assert f"done: {out}\n\n{tables_text}" in done.stdout
    (again,) = (p for p in points.tiny(points.gpu_points(), tmp_path) if p.program == "benchmarks.job")
    monkeypatch.setenv("XLA_FLAGS", programs.environment()["XLA_FLAGS"])
    assert job.measure(again.arguments)["compile_cached"] is True
