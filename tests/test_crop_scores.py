"""The scores of runs and evaluations on crop_part1 and of the weak groups, collected into one file."""

import json
import sys

import pytest

from agegender_jax.run.workdir import finished_runs
from benchmarks import crop_scores, result_files

PREDICTIONS = "file,true_age,true_gender,p_female\n{}b.png,30,male,0.1\n{}a.png,8,female,0.7\n"


def folder(path, source="", run=True):
    """Write what a finished run, or an evaluation, leaves in a folder."""
    path.mkdir()
    group = {"age_accuracy": 0.5, "gender_accuracy": 0.75, "aabd": 1.0}
    ages = {"0-9": {"n": 2} | group, "40-49": {"n": 3} | group, "100-109": {"n": 1, **group, "age_accuracy": 0.0}}
    model = {"name": "net", "step": 20, **group, "ci95": {name: [0.0, 1.0] for name in group}}
    results = {"n": 6, "models": [{"name": "other"}, model], "groups": {"age": ages}, "majority": group}
    results |= {"allow_leak": False, "split": "test"}
    (path / "results.json").write_text(json.dumps(results))
    (path / "predictions.csv").write_text(PREDICTIONS.format(source, source))
    if run:
        data = {"source": "faces/crop_part1.tar", "train_on": "faces/UTKFace.tar"}
        (path / "config.json").write_text(json.dumps({"num_epochs": 3, "data": data}))
        lines = [{"step": step, "split": "val", "loss": step, "calibrated_loss": 1.0, **group} for step in (10, 20, 30)]
        (path / "splits.csv").write_text("file,split\na.png,test\nb.png,test\nc.png,val\nd.png,train\n")
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def collect(tmp_path, monkeypatch, capsys):
    """Return a function that calls the program with rows and returns what it prints and writes."""
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    monkeypatch.setattr(finished_runs, "seconds", lambda run: 120.0)

    def call(*rows):
        monkeypatch.setattr(sys, "argv", ["crop_scores", *rows])
        crop_scores.main()
        return capsys.readouterr().out, result_files.read("crop_scores")["rows"]

    return call


def test_a_run_has_val_at_the_tested_step_and_an_evaluation_its_members(tmp_path, collect):
    run, both = folder(tmp_path / "run", source="crop_part1/"), folder(tmp_path / "both", run=False)
    text, rows = collect(f"net={run}", f"two nets={both}")
    assert rows[0]["val"]["loss"] == 20 and rows[0]["train_on"] == ["crop_part1.tar", "UTKFace.tar"]
    assert rows[0]["40 and more"] == {"n": 4, "age_accuracy": 0.375, "gender_accuracy": 0.75, "aabd": 1.0}
    assert "val" not in rows[1] and rows[1]["below 10"]["n"] == 2 and rows[1]["majority"]["aabd"] == 1.0
    assert (
        "| net | 2 | 0.500, 0.750, 1.000 (n = 1) | 0.500 [0.000, 1.000] |" in text
        and "| two nets |  |  | 0.500 " in text
    )
    assert "40 and more (n = 4)" in text and "| 0.38 | 0.75 |" in text


def test_rows_are_added_and_replaced_by_name(tmp_path, collect):
    collect(f"a={folder(tmp_path / 'a')}", f"b={folder(tmp_path / 'b')}")
    _, rows = collect(f"c={folder(tmp_path / 'c')}", f"a={folder(tmp_path / 'd', run=False)}")
    assert [row["name"] for row in rows] == ["a", "b", "c"] and "val" not in rows[0]


@pytest.mark.parametrize("changed, message", [({"allow_leak": True}, "trained on"), ({"split": "val"}, "not test")])
def test_leaked_images_and_other_splits_are_refused(changed, message, tmp_path, collect, capsys):
    path = folder(tmp_path / "run")
    results = json.loads((path / "results.json").read_text())
    (path / "results.json").write_text(json.dumps(results | changed))
    with pytest.raises(SystemExit):
        collect(f"net={path}")
    assert message in capsys.readouterr().err and not (tmp_path / "crop_scores.json").exists()


def test_rows_on_other_images_are_apart(tmp_path, collect):
    other = folder(tmp_path / "other", run=False)
    (other / "predictions.csv").write_text(PREDICTIONS.format("", "").replace("8,female", "more than 70,female"))
    results = json.loads((other / "results.json").read_text())
    results["groups"]["age"]["70+"] = results["groups"]["age"].pop("40-49")
    (other / "results.json").write_text(json.dumps(results))
    collect(f"net={folder(tmp_path / 'net')}")
    text, rows = collect("--on=FairFace", f"net={other}")
    assert [(row["on"], row["40 and more"]["n"]) for row in rows] == [("crop_part1, test", 4), ("FairFace", 4)]
    assert text.startswith("crop_part1, test\n\n|") and "\nFairFace\n\n|" in text
    assert crop_scores.table({"rows": rows}, "FairFace") in text


def test_other_test_images_are_refused(tmp_path, collect, capsys):
    other = folder(tmp_path / "other")
    (other / "predictions.csv").write_text(PREDICTIONS.format("", "").replace("8,female", "9,female"))
    with pytest.raises(SystemExit):
        collect(f"a={folder(tmp_path / 'a')}", f"b={other}")
    assert "different test images" in capsys.readouterr().err and not (tmp_path / "crop_scores.json").exists()
