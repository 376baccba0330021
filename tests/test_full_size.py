"""Trainings at full size on a GPU machine, here tiny: failures, time limits, and a dry run of the whole campaign."""

import dataclasses
import json

import numpy as np
import programs
import pytest
from benchmark_line import check_line

from agegender_jax import ensemble, loading
from benchmarks import (
    campaign,
    full_size,
    job,
    pack_faces,
    points,
    small_weights,
    tables,
)


def test_the_other_net_is_kept_if_one_fails(tmp_path, monkeypatch):
    """The other one comes back; after a stop by the time limit, both continue."""
    errors = {"ran": RuntimeError("ran, exit code 1: no memory")}

    def train(arguments, log, until, environment):
        if error := errors.get(log.stem):
            raise error
        (log.with_suffix("") / "run.json").parent.mkdir(exist_ok=True)
        run = {"devices": {"platform": "cpu", "kind": "cpu"}, "source": {}, "versions": {}}
        (log.with_suffix("") / "run.json").write_text(json.dumps(run))

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(full_size, "train", train)
    monkeypatch.setattr(full_size, "result", lambda workdir: {"net": workdir.name})
    monkeypatch.setattr(pack_faces, "prepare", lambda spec: None)
    monkeypatch.setattr(small_weights, "store", lambda runs, name, folder: [])

    def measured():
        return full_size.measure("source", "", ["ran", "resnet"], tmp_path, 60.0, [])

    assert measured()["nets"] == {"resnet": {"net": "resnet"}} and "no memory" in measured()["note"]
    errors["resnet"] = full_size.Unfinished("resnet was stopped")
    with pytest.raises(full_size.Unfinished):
        measured()
    errors["resnet"] = RuntimeError("resnet too")
    with pytest.raises(RuntimeError, match="no memory; resnet too"):
        measured()
    errors.clear()
    assert len(measured()["nets"]) == 2 and "note" not in measured()


def check_nets(line, tmp_path):
    """The restored runs predict as the trained ones do, and take an evaluation."""
    assert set(line["nets"]) == {"ran", "resnet"} and line["nets"]["ran"]["n"] == 10
    (ran_run, _) = small_weights.restore(tmp_path / "copied", tmp_path / "restored")
    trained, again = loading.load(tmp_path / "dry-run" / "faces" / "ran"), loading.load(ran_run)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    probs = [ensemble.predict(model, variables, images) for model, variables, _ in (trained, again)]
    assert np.array_equal(probs[0].age, probs[1].age) and np.array_equal(probs[0].gender, probs[1].gender)
    source = ("--source=synthetic:100", "--split=test")
    done = programs.run("evaluate", f"--workdir={ran_run}", *source, f"--out={tmp_path / 'evaluation'}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "evaluation" / "results.json").read_text())["models"][0]
    assert scores["aabd"] == line["nets"]["ran"]["aabd"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_stopped_training_continues(tmp_path, monkeypatch):
    """At the time limit both nets stop; further starts of the same point end them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (point,) = (p for p in points.tiny(points.gpu_points(""), tmp_path) if p.program == "benchmarks.full_size")
    point = dataclasses.replace(point, fields=point.fields | {"num_epochs": 40, "eval.every_epochs": 40})
    with pytest.raises(campaign.Unfinished, match="was stopped"):
        campaign.run_apart(dataclasses.replace(point, flags=point.flags | {"seconds": 35}), 600.0)
    point = dataclasses.replace(point, flags=point.flags | {"seconds": 900})
    assert campaign.run_apart(point, 1000.0)["nets"]["ran"]["steps"] == 400


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "dry.json"
    assert campaign.main(["gpu", "--dry-run", f"--out={out}", f"--copy_to={tmp_path / 'copied'}"]) == 0
    result = [point["result"] for point in json.loads(out.read_text())["points"].values()]
    assert [line["what"] for line in result] == [
        *("limits", "full_size", "resume", "train", "job", "evaluate", "kernels", "input", "fit")
    ]
    by = {line["what"]: line for line in result}
    assert by["resume"]["equal"] and by["resume"]["killed_after"] >= 40 and by["resume"]["arrays"] > 20
    check_nets(by["full_size"], tmp_path)
    copied = sorted(path.name for path in (tmp_path / "copied").iterdir())
    assert copied == ["dry.json", "faces-ran.00.part", "faces-resnet.00.part", "faces.tar.gz"]
    tables_text = tables.all_of(json.loads(out.read_text()))
    assert "| synthetic | levi_hassner | 32 | 8 | bfloat16 | 2 |" in tables_text and "| yes |" in tables_text
    assert by["limits"]["jax"]["matmul_float32"] > 0 and by["limits"]["decoded_images_per_second"]["one_thread"] > 0
    assert 0 < sum(kernel["share"] for kernel in by["kernels"]["kernels"]) <= 1 + 1e-9
    assert by["kernels"]["gflops"] > 0 and by["kernels"]["gb_per_second"] > 0
    values = by["job"]
    assert values["extrapolated_s"] == pytest.approx(values["first_s"] + 99 * values["second_s"] + values["after_s"])
    assert values["images_an_epoch"] == 80 and values["batch_size"] == 8
    check_line("fit", by["fit"], "bfloat16")
    assert "done: " in capsys.readouterr().out
    assert (programs.ROOT / "benchmarks" / "gpu.sh").stat().st_mode & 0o111 and job.ROOT == programs.ROOT
