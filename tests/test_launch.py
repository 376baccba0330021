"""Exit codes and messages, as a user meets them."""

import json
import os
import shutil
import subprocess
import tarfile
import time

import numpy as np
import programs
import pytest
from PIL import Image

from agegender_jax.data import synthetic
from agegender_jax.run.workdir import Workdir


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 60 drawn faces and a run trained on them."""
    folder = tmp_path_factory.mktemp("launch")
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    done = train(folder, f"--workdir={folder / 'run'}", "--config.num_steps=1")
    assert done.returncode == 0, done.stderr
    return folder


def train(place, *arguments, devices=1):
    given = (*programs.SMALL, f"--config.data.source={place / 'faces'}", f"--config.data.cache_dir={place / 'cache'}")
    return programs.run("train", *given, *arguments, devices=devices)


def check(done, code, *texts):
    """Three short lines, no stack trace, the code, and each text somewhere in them."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and "Traceback" not in done.stderr, done.stderr
    assert [line.split(":")[0].strip() for line in lines] == ["error", "where", "fix"]
    for text in texts:
        assert text in done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_quick_and_needs_no_jax(name):
    begun = time.perf_counter()
    done = programs.run(name, "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout and f"python -m launch.{name}" in done.stdout
    assert time.perf_counter() - begun < 1.5
    python, *rest = programs.command(name, "--help")
    told = subprocess.run([python, "-X", "importtime", *rest], cwd=programs.ROOT, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "absl.flags" in imported and not imported & {"jax", "flax", "tensorflow_datasets", "matplotlib"}


@pytest.mark.parametrize(
    "arguments, texts",
    [
        ([], ["--config is missing"]),
        (["--config=configs/rann.py"], ["configs/rann.py", "No such file"]),
        (["--config=configs/ran.py:nix"], ["unknown variant 'nix'", "92, paper"]),
        (["--config=configs/ran.py", "--config.optimizer.lrr=1"], ["lrr", "did you mean optimizer.lr?"]),
        (["--config=configs/ran.py", "--config.optimizer.lr=much"], ["--config.optimizer.lr=much"]),
        (["--config=configs/ran.py", "--config.optimizer.lr=-1"], ["optimizer.lr must be at least 0"]),
        (["--config=configs/ran.py", "--config.model.name=ran57"], ["ran57", "did you mean ran56?"]),
        (["--config=configs/ran.py", "--config.batch_size=0"], ["batch_size must be at least 1"]),
        (["--config=configs/ran.py", "--config.data.image_size=31"], ["image_size must be between 32"]),
        (["--config=configs/ran.py", "--wrokdir=x"], ["unknown flag --wrokdir", "did you mean workdir?"]),
        (["--config=configs/ran.py", "left", "over"], ["unexpected argument 'left'"]),
    ],
)
def test_bad_flags_and_fields(arguments, texts):
    check(programs.run("train", *arguments), 2, *texts)


def test_debug_shows_the_stack_trace():
    done = programs.run("train", "--config=configs/rann.py", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("  fix:")


def test_workdir_is_a_file(place):
    (place / "file").write_text("")
    check(train(place, f"--workdir={place / 'file'}"), 2, str(place / "file"))


def test_workdir_in_use(place):
    with Workdir(place / "held"):
        check(train(place, f"--workdir={place / 'held'}"), 2, f"in use by process {os.getpid()}")


def test_workdir_of_another_config(place):
    done = train(place, f"--workdir={place / 'run'}", "--config.seed=3")
    check(done, 2, "seed: 0 -> 3")


def test_batch_not_divisible_by_the_devices(place):
    done = train(place, f"--workdir={place / 'x'}", "--config.batch_size=15", devices=2)
    check(done, 2, "batch_size 15", "2 devices")


def test_default_source_explains_itself(place):
    done = programs.run("train", "--config=configs/ran.py", f"--workdir={place / 'x'}")
    check(done, 3, "data/crop_part1", ".tar.gz", "UTKFace", "--config.data.source=synthetic")


def test_defaults_of_source_and_workdir(place, tmp_path):
    (tmp_path / "configs").symlink_to(programs.ROOT / "configs")
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "crop_part1.tar", "w") as archive:
        archive.add(place / "faces", "crop_part1")
    small = [argument for argument in programs.SMALL if "num_steps" not in argument]
    cache = f"--config.data.cache_dir={place / 'cache'}"
    done = programs.run(
        "train", "--config=configs/resnet.py:18,paper", *small[1:], "--config.num_steps=1", cache, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "runs" / "resnet-18-paper" / "results.json").read_text())
    assert found["source"]["name"] == "crop_part1" and found["models"][0]["name"] == "resnet-18-paper"


def test_cache_folder_cannot_be_written(place):
    (place / "occupied").write_text("")
    below = place / "occupied" / "cache"
    check(train(place, f"--config.data.cache_dir={below}", f"--workdir={place / 'x'}"), 2, str(below), "cache_dir")


def test_goes_on_when_nobody_reads_its_output(place):
    workdir = place / "unread"
    arguments = (
        *programs.SMALL,
        f"--config.data.source={place / 'faces'}",
        f"--config.data.cache_dir={place / 'cache'}",
    )
    given = programs.command("train", *arguments, "--config.num_steps=1", f"--workdir={workdir}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(given, cwd=programs.ROOT, env=programs.environment(), text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(120) == 0
    assert (workdir / "results.json").exists()


def test_empty_source(place):
    (place / "empty").mkdir()
    check(train(place, f"--config.data.source={place / 'empty'}", f"--workdir={place / 'x'}"), 3, "no images")


def test_too_many_bad_files(place):
    folder = place / "bad"
    synthetic.write_faces(folder, 20, seed=1, size=32)
    (folder / "30_0_0_20170101000000000.jpg").write_bytes(b"not an image")
    done = train(place, f"--config.data.source={folder}", f"--workdir={place / 'x'}")
    check(done, 3, "1 of 21", "30_0_0_20170101000000000.jpg", "--config.data.max_bad=")


def test_batch_larger_than_the_train_split(place):
    done = train(place, f"--workdir={place / 'x'}", "--config.batch_size=64")
    check(done, 3, "batch_size 64", "train split of")


def test_source_changed_since_the_run_began(place):
    workdir = place / "changed"
    folder = place / "growing"
    synthetic.write_faces(folder, 60, seed=2, size=32)
    source = (f"--config.data.source={folder}", f"--workdir={workdir}", "--config.num_steps=1")
    assert train(place, *source).returncode == 0
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "20_1_1_20170101000000000.png")
    check(train(place, *source), 3, "changed since the run began")


def test_loss_not_finite(place):
    wild = ("--config.optimizer.name=sgd", "--config.optimizer.lr=1e30", "--config.optimizer.clip_norm=0")
    check(train(place, f"--workdir={place / 'wild'}", *wild), 5, "not finite", "optimizer.lr")


def test_evaluate_needs_a_run(place):
    check(programs.run("evaluate", "--workdir=/nowhere/at/all"), 4, "there is no run")
    check(programs.run("evaluate"), 2, "--workdir is missing")


def test_evaluate_checkpoint_of_another_step_or_model(place):
    run = f"--workdir={place / 'run'}"
    check(programs.run("evaluate", run, "--checkpoint=7", f"--out={place / 'out'}"), 4, "step 7", "latest or one of 1")


def test_evaluate_checkpoint_of_another_model(place):
    other = place / "other_model"
    shutil.copytree(place / "run", other)
    (stored,) = (other / "checkpoints").rglob("config.json")
    config = json.loads(stored.read_text())
    config["model"]["width"] = 0.25
    stored.write_text(json.dumps(config))
    check(programs.run("evaluate", f"--workdir={other}", f"--out={place / 'out'}"), 4, str(other))


def test_evaluate_refuses_leaked_images(place):
    arguments = (f"--workdir={place / 'run'}", "--split=all", f"--out={place / 'leak'}")
    check(programs.run("evaluate", *arguments), 3, "trained or validated on", "--allow_leak")
    done = programs.run("evaluate", *arguments, "--allow_leak")
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "leak" / "results.json").read_text())["allow_leak"] is True


def test_evaluate_two_runs_as_an_ensemble(place):
    other = train(place, f"--workdir={place / 'other'}", "--config.num_steps=2", "--config.data.image_size=40")
    assert other.returncode == 0, other.stderr
    runs = (f"--workdir={place / 'run'}", f"--workdir={place / 'other'}", f"--workdir={place / 'run'}")
    done = programs.run("evaluate", *runs, f"--out={place / 'both'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "both" / "results.json").read_text())
    assert [model["name"] for model in found["models"]] == ["run", "other", "run-2", "ensemble"]
    assert found["n"] == len((place / "both" / "predictions.csv").read_text().splitlines()) - 1 > 0
    alone = json.loads((place / "run" / "results.json").read_text())["models"][0]
    assert {key: found["models"][0][key] for key in alone} == alone
