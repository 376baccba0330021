"""Exit codes and messages of `launch.evaluate`, and what it writes."""

import csv
import json
import shutil
import tarfile

import launched_run
import programs
import pytest
from launched_run import train
from PIL import Image
from programs import check

from agegender_jax.checkpoint import manifest


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder with the faces and the run of `launched_run`."""
    return launched_run.make(tmp_path_factory)


def test_evaluate_needs_a_run(base):
    check(programs.run("evaluate", "--workdir=/nowhere/at/all"), 4, "there is no run")
    check(programs.run("evaluate"), 2, "--workdir is missing")


def test_evaluate_a_run_without_a_config(base):
    broken = base / "no_config"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    done = programs.run("evaluate", f"--workdir={broken}")
    check(done, 4, "config.json of the workdir is not the config of a run", f"  where: {broken / 'config.json'}\n")


def test_evaluate_unknown_checkpoint():
    done = programs.run("evaluate", "--workdir=runs/ran", "--checkpoint=beast")
    check(done, 2, "unknown checkpoint 'beast'", "  where: --checkpoint\n", "use best, latest or a step's number")


def test_evaluate_without_a_usable_checkpoint(base):
    damaged, empty = base / "damaged", base / "empty_run"
    for copy in (damaged, empty):
        shutil.copytree(base / "run", copy)
    for path in (damaged / "checkpoints").rglob("*"):
        if path.is_file() and path.name == "config.json":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    shutil.rmtree(empty / "checkpoints")
    done = programs.run("evaluate", f"--workdir={damaged}", f"--out={base / 'out'}")
    check(
        done, 4, "no usable checkpoint: step 1: config.json is damaged (sha256 differs)", str(damaged / "checkpoints")
    )
    done = programs.run("evaluate", f"--workdir={empty}", f"--out={base / 'out'}")
    check(done, 4, "there is no checkpoint", f"  where: {empty / 'checkpoints'}\n", "train first")


def test_evaluate_cannot_write(base):
    (base / "out_file").write_text("")
    done = programs.run("evaluate", f"--workdir={base / 'run'}", f"--out={base / 'out_file'}")
    check(done, 2, "--out cannot be used", f"  where: {base / 'out_file'}\n", "name a folder that can be written")


def test_evaluate_members_of_different_sources(base):
    other = base / "elsewhere"
    shutil.copytree(base / "run", other)
    for name, group, field in (("config", "data", "source"), ("run", "source", "fingerprint")):
        results = json.loads((other / f"{name}.json").read_text())
        results[group][field] = "another"
        (other / f"{name}.json").write_text(json.dumps(results))
    done = programs.run("evaluate", f"--workdir={base / 'run'}", f"--workdir={other}", f"--out={base / 'out'}")
    check(done, 2, "the members were trained on different sources: ", "another", "with --source")


def test_evaluate_checkpoint_of_another_step(base):
    run = f"--workdir={base / 'run'}"
    check(programs.run("evaluate", run, "--checkpoint=7", f"--out={base / 'out'}"), 4, "step 7", "latest or one of 1")


def test_evaluate_checkpoint_of_another_model(base):
    other = base / "other_model"
    shutil.copytree(base / "run", other)
    step = other / "checkpoints" / "1"
    config = json.loads((step / "config.json").read_text())
    config["model"]["width"] = 0.25
    (step / "config.json").write_text(json.dumps(config))
    manifest.write(step, 1, manifest.read(step)["metrics"])
    done = programs.run("evaluate", f"--workdir={other}", f"--out={base / 'out'}")
    check(
        done,
        4,
        "the checkpoint is of another model or label space",
        "float32[16] for float32[24]",
        f"  where: {step}\n",
    )


def test_evaluate_refuses_leaked_images(base):
    arguments = (f"--workdir={base / 'run'}", "--split=all", f"--out={base / 'leak'}")
    (base / "leak" / "figures").mkdir(parents=True)
    for name in ("ages.png", "attention_run.png", "mine.txt"):  # two of an earlier evaluation
        (base / "leak" / "figures" / name).write_bytes(b"")
    check(programs.run("evaluate", *arguments), 3, "trained or validated on", "--exclude_leaked", "--allow_leak")
    check(programs.run("evaluate", *arguments, "--allow_leak", "--exclude_leaked"), 2, "contradict each other")
    done = programs.run("evaluate", *arguments, "--exclude_leaked", "--nofigures")
    assert done.returncode == 0, done.stderr
    results, own = (json.loads((base / name / "results.json").read_text()) for name in ("leak", "run"))
    assert (results["n"], results["excluded_leaked"], results["allow_leak"]) == (own["n"], 60 - own["n"], False)
    assert own["excluded_leaked"] == 0 and f"{60 - own['n']} of 60 images are left out" in done.stdout
    assert f"{60 - own['n']} images are left out" in (base / "leak" / "report.html").read_text()
    done = programs.run("evaluate", *arguments, "--allow_leak", "--nocalibrate", "--nofigures")
    assert done.returncode == 0, done.stderr
    results = json.loads((base / "leak" / "results.json").read_text())
    assert results["allow_leak"] is True and results["calibrated"] is False
    assert not list((base / "leak" / "figures").glob("*.png"))
    assert (base / "leak" / "figures" / "mine.txt").exists()
    page = (base / "leak" / "report.html").read_text()
    assert "<img" not in page


def test_evaluate_refuses_recompressed_images_and_runs_without_splits(base):
    with open(base / "run" / "splits.csv", newline="") as file:
        trained = [row["file"] for row in csv.DictReader(file) if row["split"] == "train"][:5]
    (base / "again").mkdir()
    for name in trained:
        Image.open(base / "faces" / name).save(base / "again" / name, quality=80)
    arguments = (f"--source={base / 'again'}", "--split=all", f"--out={base / 'out'}")
    done = programs.run("evaluate", f"--workdir={base / 'run'}", *arguments)
    check(done, 3, "of 5 images, or near-duplicates of them, were trained", f"{base / 'run' / 'splits.csv'}\n")
    shutil.copytree(base / "run", base / "no_splits")
    (base / "no_splits" / "splits.csv").unlink()
    done = programs.run("evaluate", f"--workdir={base / 'no_splits'}", *arguments)
    check(done, 3, "splits.csv of the run is missing or damaged", f"{base / 'no_splits' / 'splits.csv'}\n")


def test_evaluate_two_runs_as_an_ensemble(base):
    with tarfile.open(base / "faces.tar", "w") as archive:
        archive.add(base / "faces", "faces")
    tar = f"--config.data.source={base / 'faces.tar'}"  # the same source by another path
    other = train(base, f"--workdir={base / 'other'}", "--config.num_steps=2", "--config.data.image_size=40", tar)
    assert other.returncode == 0, other.stderr
    runs = (f"--workdir={base / 'run'}", f"--workdir={base / 'other'}")
    done = programs.run("evaluate", *runs, f"--out={base / 'both'}")
    assert done.returncode == 0, done.stderr
    results = json.loads((base / "both" / "results.json").read_text())
    assert [model["name"] for model in results["models"]] == ["run", "other", "ensemble"]
    assert results["n"] == len((base / "both" / "predictions.csv").read_text().splitlines()) - 1 > 0
    alone = json.loads((base / "run" / "results.json").read_text())["models"][0]
    assert {key: results["models"][0][key] for key in alone} == alone
    assert results["made_by"]["command"] == " ".join(["python -m launch.evaluate", *runs, f"--out={base / 'both'}"])
    assert results["made_by"]["devices"]["platform"] == "cpu" and results["made_by"]["versions"]["jax"]
    assert "ensemble against other: age accuracy" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_views_are_those_of_the_option(base):
    rows = {}
    for views in ("none", "flip", "flip_shift"):
        out = base / f"views_{views}"
        done = programs.run("evaluate", f"--workdir={base / 'run'}", f"--views={views}", f"--out={out}")
        assert done.returncode == 0, done.stderr
        rows[views] = (out / "predictions.csv").read_text()
        assert json.loads((out / "results.json").read_text())["models"][0]["views"] == views
    assert len(set(rows.values())) == 3
