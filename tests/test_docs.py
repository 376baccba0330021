"""Tables in the documentation match the code and the measurements; the names and the example of docs/models.md."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import programs
import pytest
from test_models import COUNTS, LONGER, shapes_of

from agegender_jax import models, weights
from agegender_jax.checkpoint import tree
from agegender_jax.models import sizes
from benchmarks import campaign, crop_scores, explanations, ideas, layers, result_files, tables, ynnpack

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "models.md").read_text()


SLOW = ("ran56", *LONGER, "frequency_critic")  # to trace four times


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in (*models.names(), *models.systems())
    ],
)
def test_the_table_is_what_launch_models_prints(name):
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}` | "))
    assert sizes.table([name]).splitlines()[-1] == row


@pytest.mark.parametrize("name", [name for name in SLOW if name in COUNTS])
def test_the_table_has_the_parameters_of_large_nets(name):
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}` | "))
    assert row.split(" | ")[1] == f"{COUNTS[name][0]:,}"


@pytest.mark.parametrize("name, table", [("cpu", tables.throughput), ("fit", tables.fed)])
def test_the_tables_are_what_the_campaigns_measured(name, table):
    assert table(result_files.read(name)) in (campaign.ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("source", ["synthetic", "crop_part1"])
def test_the_explanations_tables_are_what_was_measured(source):
    measured = result_files.read(f"explanations_{source}")
    assert explanations.table(measured) in (campaign.ROOT / "docs" / "explanations.md").read_text()


def test_the_tables_of_relevance_and_patches_are_what_was_measured():
    measured, text = (
        result_files.read("explanations_relevance"),
        (campaign.ROOT / "docs" / "explanations.md").read_text(),
    )
    assert explanations.patches_table(measured["patches"]) in text
    for source in measured.keys() - {"patches"}:
        assert explanations.relevance_table(measured[source]) in text


def test_the_summary_of_layers_is_what_was_measured():
    assert layers.summary(result_files.read("layers")) in (campaign.ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("name", ["crop/resnet", "ff/r100", "ff/r50"])
def test_the_trainings_on_a_gpu_are_what_was_measured(name):
    run = result_files.read("gpu_h100")["trainings"][name]
    cells = [
        f"{run[score]:.3f} [{run['ci95'][score][0]:.3f}, {run['ci95'][score][1]:.3f}]"
        for score in ("age_accuracy", "gender_accuracy", "aabd")
    ]
    assert f"| {run['n']:,} | {' | '.join(cells)} |" in (campaign.ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize(
    "table",
    [
        tables.shipped_weights,
        tables.shipped_doubts,
        tables.shipped_coverages,
        lambda rows: tables.shipped_groups(rows[1]),
        lambda rows: tables.shipped_groups_elsewhere(rows[2:]),
    ],
)
def test_the_tables_of_the_shipped_weights_are_what_was_measured(table):
    rows = result_files.read("shipped_weights")
    assert table(rows) in (campaign.ROOT / "docs" / "weights.md").read_text()
    cards = [weights.card(name) for name in weights.names()]
    assert {card.name: card.sha256 for card in cards if card.sha256} == rows[0]["weights"]  # all nets are measured


def test_the_table_of_mirrored_views_is_what_was_measured():
    rows = result_files.read("shipped_weights")
    assert tables.shipped_views(rows[:1]) in (campaign.ROOT / "docs" / "predict.md").read_text()


def test_the_table_of_the_nets_that_the_default_was_chosen_from_is_what_was_measured():
    rows = result_files.read("weight_choices")["rows"]
    assert tables.weight_choices(rows) in (campaign.ROOT / "docs" / "weights.md").read_text()
    assert weights.card(weights.DEFAULT).members in [tuple(row["nets"]) for row in rows]


def test_the_table_of_the_control_in_pytorch_is_what_was_measured():
    assert tables.control(result_files.read("torch_recipe")) in (campaign.ROOT / "docs" / "recipe.md").read_text()


def test_the_bounds_that_labels_set_are_what_was_measured():
    text = (campaign.ROOT / "docs" / "accuracy.md").read_text()
    noise = result_files.read("audit_crop_part1")["label_noise"]
    for heading, score, bounds in (
        ("age accuracy", "age_accuracy", "ceiling"),
        ("gender accuracy", "gender_accuracy", "ceiling"),
        ("AABD", "aabd", "floor"),
    ):
        cells = [
            "{:.3f} to {:.3f} [{:.3f}, {:.3f}]".format(*kind[score][bounds], *kind[score][f"{bounds}_ci95"])
            for kind in (noise["exact"], noise["exact_without_recurring"])
        ]
        assert f"| {heading} | {' | '.join(cells)} |" in text


def test_the_table_of_pasted_faces_is_what_was_measured():
    results = result_files.read("pasted_faces")
    assert tables.pasted_faces(results) in (campaign.ROOT / "docs" / "predict.md").read_text()
    assert set(results["weights"].values()) <= {weights.card(name).sha256 for name in weights.names()}


def test_the_table_of_warnings_is_what_was_measured():
    results = result_files.read("face_flags")
    assert tables.face_flags(results) in (campaign.ROOT / "docs" / "predict.md").read_text()
    assert set(results["weights"].values()) <= {weights.card(name).sha256 for name in weights.names()}


def test_the_table_of_alignments_is_what_was_measured():
    assert tables.alignment(result_files.read("alignment")) in (campaign.ROOT / "docs" / "predict.md").read_text()


def test_the_table_of_convolutions_without_ynnpack_is_what_was_measured():
    text = (campaign.ROOT / "benchmarks" / "README.md").read_text()
    assert all(f"  {line}\n" in text for line in ynnpack.table(result_files.read("ynnpack")["rows"]).splitlines())


def test_the_table_of_predicts_speed_is_what_was_measured():
    rows = result_files.read("bulk")["face_api"]["rows"]
    assert tables.predict_speed(rows) in (campaign.ROOT / "docs" / "predict.md").read_text()


def test_the_text_on_folding_has_the_measured_ratios():
    """In the order of the text: each net at 64 and at 128 pixels."""
    rows = {(row["net"], row["image_size"]): row for row in result_files.read("folding")["rows"]}
    pairs = []
    for net in ("resnet18", "resnet50", "ran56"):
        ratios = [rows[net, size]["quickest_s"] for size in (64, 128)]
        pairs.append(" and ".join(f"{of['plain'] / of['folded']:.2f}" for of in ratios))
    text = " ".join((campaign.ROOT / "benchmarks" / "README.md").read_text().split())
    assert f"The net takes {pairs[0]} times as long as the folded one for ResNet-18 at 64 and 128 pixels" in text
    assert f"{pairs[1]} for ResNet-50, and {pairs[2]} for Attention-56" in text


PROGRAMS = sorted(path.stem for path in (campaign.ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())
PROGRAMS.remove("torch_steps")  # which reads stdin


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_of_the_benchmarks_has_a_help_that_changes_nothing(name):
    """absl's own programs end with 1."""
    if name == "torch_recipe" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    folders = (result_files.RESULTS, weights.FOLDER)

    def changed():
        return {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}

    before = changed()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=campaign.ROOT, capture_output=True, text=True
    )
    absl = "absl import app" in (campaign.ROOT / "benchmarks" / f"{name}.py").read_text()
    assert done.returncode == (1 if absl else 0) and "Traceback" not in done.stderr, done.stderr
    assert f"benchmarks.{name}" in done.stdout or f"{name}.py" in done.stdout
    assert changed() == before


def test_the_table_has_its_heading():
    assert sizes.table([]) in TEXT


def test_launch_models_prints_the_table(monkeypatch, capsys):
    from agegender_jax.cli import models as program

    monkeypatch.setattr(sizes, "SIZES", (64,))
    monkeypatch.setattr(models, "names", lambda: ("resnet18",))
    monkeypatch.setattr(models, "systems", lambda: ("region_sift",))
    program.main()
    heads, _, row, system = capsys.readouterr().out.splitlines()
    assert heads.startswith("| net | parameters | M at 64 |") and row.startswith("| `resnet18` | 11,176,512 | 148.0 |")
    assert system.startswith("| `region_sift` | 7,378,814 | 57.5 |")
    assert programs.run("models", "--help").returncode == 0


@pytest.mark.parametrize("name", ["ran92", "ran56_cifar", "resnet50", "levi_hassner", "vgg16", "googlenet"])
def test_every_submodule_name_is_documented(name):
    documented = {re.sub(r"\{\w\}", "#", word) for word in re.findall(r"`([\w{}]+)`", TEXT.partition("## Names")[2])}
    variables = shapes_of(models.build(name, num_age_classes=12, age_hidden=8), 32)
    for path in tree.named_leaves(variables):
        for part in set(path.split("/")) - {"params", "batch_stats"}:
            assert part in documented or re.sub(r"\d", "#", part) in documented, path


@pytest.mark.slow
def test_the_example_for_your_own_flax_code_runs():
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(source, names)
    assert names["smile"].shape == (2,) and [m.shape for m in names["attention"]] == [(2, 16, 16), (2, 8, 8), (2, 4, 4)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((names["smile"], names["attention"])))


def test_the_table_of_crop_part1_is_what_was_measured():
    results, text = result_files.read("crop_scores"), (campaign.ROOT / "docs" / "accuracy.md").read_text()
    for on in {row["on"] for row in results["rows"]}:
        assert crop_scores.table(results, on) in text


def test_the_tables_of_the_papers_ideas_are_what_was_measured():
    results = result_files.read("ideas")
    assert results["seeds"] == [0, 1, 2] and len(results["runs"]) == len(ideas.RUNS)
    assert ideas.table(results) in (campaign.ROOT / "docs" / "ablations.md").read_text()


def test_the_readme_has_the_scores_of_face_api():
    scores = result_files.read("face_api")["scores"]
    age, gender, aabd = (f"{scores[name]['value']:.3f}" for name in ("age_accuracy", "gender_accuracy", "aabd"))
    text = " ".join((campaign.ROOT / "README.md").read_text().split())
    assert f"perhaps trained on these images, has {age}, {gender} and {aabd}" in text
