import dataclasses
import json

import pytest
import yaml
from number_sources import untraced
from reporting import everything

from agegender_jax import report
from agegender_jax.config import default
from agegender_jax.report.paper_comparison import compare_protocols
from agegender_jax.run.workdir import Workdir, training_summary


@pytest.fixture(scope="module")
def finished_run():
    results, (run,), *_ = everything(names=("ran",))
    return run, results


def files(run, results):
    return run.config, run.run, run.splits, run.rows, run.calibration, results, default().to_dict()


def test_every_number_of_the_card_is_in_a_file(finished_run):
    run, results = finished_run
    text = report.card(run, results)
    assert untraced(text, *files(run, results)) == set()
    assert len(untraced(text)) > 100  # numbers to trace


def test_a_number_without_a_file_is_detected(finished_run):
    run, results = finished_run
    text = report.card(run, results) + "\nIt reaches 0.9876 on 12,345 faces."
    assert untraced(text, *files(run, results)) == {"0.9876", "12,345"}


def test_the_front_matter_is_readable_by_model_hubs(finished_run):
    run, results = finished_run
    _, front, _ = report.card(run, results).split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["license"] == "apache-2.0" and "age-estimation" in meta["tags"] and meta["datasets"] == ["synthetic"]
    (model,) = meta["model-index"]
    (result,) = model["results"]
    assert model["name"] == "ran" and result["dataset"]["split"] == "test"
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["age accuracy"] == pytest.approx(results["models"][-1]["age_accuracy"], abs=5e-4)
    assert values["age MAE (years)"] == pytest.approx(results["models"][-1]["age_mae"], abs=5e-3)


def test_markdown_is_not_escaped_for_html(finished_run):
    run, results = finished_run
    command = ["launch/train.py", "--config.data.source=a b & <c>"]
    text = report.card(dataclasses.replace(run, run=run.run | {"command": command}), results)
    assert "'--config.data.source=a b & <c>'" in text


def test_names_are_text_in_markdown(finished_run):
    run, results = finished_run
    name = "<img src=x>\n# a|`b` [c](d)"
    command = ["launch/train.py", "--workdir=``<x>`"]
    hostile = {"source": {"name": name, "fingerprint": "f" * 64}}
    text = report.card(dataclasses.replace(run, run=run.run | hostile | {"command": command}), results | hostile)
    assert r"source: &lt;img src=x&gt;\\n# a\|\`b\` \[c\](d), fingerprint" in text
    assert "``` launch" not in text and "```python -m launch.train '--workdir=``<x>`'```" in text


def licence(text):
    return yaml.safe_load(text.split("---\n", 2)[1])["license"]


def test_weights_trained_on_real_faces_are_not_free(finished_run):
    run, results = finished_run
    real = {"source": {"name": "crop_part1", "fingerprint": "f" * 64}}
    text = report.card(dataclasses.replace(run, run=run.run | real), results | real)
    assert (
        licence(text) == "other" and "for research only" in text and "synthetic" not in text.partition("## Licence")[2]
    )


def test_the_licence_of_initial_weights_applies(finished_run):
    run, results = finished_run
    text = report.card(dataclasses.replace(run, config=run.config | {"init_from": "runs/real"}), results)
    assert licence(text) == "other" and "and to that of runs/real" in text and "no data licence" not in text


def test_a_head_without_a_loss_is_reported(finished_run):
    run, results = finished_run
    config = run.config | {"loss": run.config["loss"] | {"gender_weight": 0.0}}
    rows = [row | {"loss_age": 1.75} for row in run.rows]
    text = report.card(dataclasses.replace(run, config=config, rows=rows), results)
    assert "the gender head was not trained" in text and "val loss 1.750 nats" in text
    assert "was not trained" not in report.card(run, results)


def test_the_card_says_what_decided_the_split(finished_run):
    run, results = finished_run
    assert "split: by content, split_seed 0;" in report.card(run, results)
    config = run.config | {"data": run.config["data"] | {"splits": "runs/ran/splits.csv"}}
    assert "split: by a CSV, data.splits;" in report.card(dataclasses.replace(run, config=config), results)


def test_missing_values_are_not_measured(finished_run):
    run, results = finished_run
    model = {key: value for key, value in results["models"][-1].items() if key not in ("calibration", "age_mae", "cs5")}
    groups = {key: value for key, value in results["groups"].items() if key != "gaps"}
    bare = dataclasses.replace(run, run={}, splits={}, rows=[], calibration=None)
    text = report.card(bare, results | {"models": [model], "groups": groups})
    assert "images: not measured" in text and "| CS@5: expected age within 5 years | not measured |" in text
    assert "Largest differences between groups: not measured." in text and "Not measured." in text
    assert "command: not recorded" in text and "git revision: not recorded" in text
    assert "None" not in text and "undefined" not in text.lower()


def test_the_card_of_a_workdir_is_made_from_its_files(finished_run, tmp_path):
    run, results = finished_run
    folder = Workdir(tmp_path)
    folder.config.write_text(json.dumps({"model": {"width": 0.25}}))  # of an older version with fewer fields
    folder.splits.write_text("file,split\na,train\nb,train\nc,test\n")
    folder.metrics.write_text('{"step": 700, "split": "val", "loss": 1.25}\n')
    folder.run.write_text("{damaged")
    folder.results.write_text(json.dumps(results))
    training_summary.write_card(folder)
    text = folder.card.read_text()
    assert "images: train 2, val 0, test 1" in text and "val loss 1.250 nats" in text and "width 0.25" in text
    assert "git revision: not recorded" in text


@pytest.mark.parametrize("rounds", [0, 3])
def test_a_solved_net_has_no_optimizer(finished_run, rounds):
    """Neither in the card nor in the report's comparison with the paper."""
    run, results = finished_run
    elm = run.config["elm"] | {"rounds": rounds, "joint_lr": 0.25}
    config = run.config | {"model": run.config["model"] | {"head": "elm"}, "elm": elm}
    solved = dataclasses.replace(run, config=config)
    line = next(line for line in report.card(solved, results).splitlines() if line.startswith("- optimizer: "))
    protocol = {item: ours for item, _, ours in compare_protocols(results, [solved])}
    between = f"; between the solutions SGD, rate 0.25, batch {config['batch_size']}" if rounds else ""
    assert line == f"- optimizer: solved in closed form{between}"
    assert protocol["optimizer"] == line.removeprefix("- optimizer: ")
    assert protocol["epochs"] == ("3 between the solutions" if rounds else "none")
    assert (protocol["augmentation"] == "none") == (not rounds)
