"""The measurement of the paper's ideas: its runs and its arithmetic."""

import math
import types

import jax
import numpy as np
import pytest

from agegender_jax import config as config_lib
from agegender_jax.run.train import build_model
from agegender_jax.structs import Probs
from benchmarks import ideas


@pytest.mark.parametrize("name", ideas.RUNS)
def test_every_run_differs_from_the_recipe_in_its_fields_alone(name):
    base, config = (dict(config_lib.flat(ideas.config_of(run, 3, "faces"))) for run in ("probs", name))
    assert config["seed"] == 3
    assert {field for field in config if config[field] != base[field]} == {
        field for field, value in ideas.RUNS[name].items() if value != base[field]
    }


def test_the_comparisons_are_of_runs_and_all_kinds_occur():
    members = {name for _, a, b in ideas.COMPARISONS for name, _ in (*a, *b)}
    assert members == set(ideas.RUNS)
    assert len({name for name, _, _ in ideas.COMPARISONS}) == len(ideas.COMPARISONS) == 12 + 9


def test_the_wider_net_without_masks_has_as_many_parameters():
    def parameters(name):
        model, images = build_model(ideas.config_of(name, 0, "faces")), np.zeros((1, 64, 64, 3), np.float32)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))

    masks, wider, narrow = map(parameters, ("Attention-56", "wider without masks", "no masks"))
    assert abs(wider / masks - 1) < 0.01 and narrow < 0.8 * masks


def test_ensembles_and_tasks_are_compared_seed_by_seed(tmp_path, monkeypatch):
    """Three images, three seeds: an ensemble is the mean of its members, two nets of one kind those of two seeds."""
    male, female = [0.9, 0.1], [0.2, 0.8]
    gender = {
        ("probs", 0): [male, male, male],
        ("probs", 1): [female, female, male],
        ("probs", 2): [male, female, female],
        ("Attention-56", 0): [female, male, female],
        ("Attention-56", 1): [male, female, female],
        ("Attention-56", 2): [male, male, female],
    }
    age = np.eye(12)[[0, 0, 0]]
    names = ("probs", "Attention-56", "none", "age alone")
    runs = {(name, seed): gender.get((name, seed), [male] * 3) for name in names for seed in (0, 1, 2)}
    data = types.SimpleNamespace(
        targets=lambda split: (np.zeros((3, 2), int), np.array([0, 1, 1])),
        indices=lambda split: np.arange(3),
        prepared=types.SimpleNamespace(group=np.arange(3), fingerprint="f"),
    )
    monkeypatch.setattr(ideas.dataset, "load_dataset", lambda *args: data)
    key = {ideas.workdir(tmp_path, *run).path: run for run in runs}
    monkeypatch.setattr(ideas.finished_runs, "is_finished", lambda run: run.path in key)
    monkeypatch.setattr(
        ideas.finished_runs, "predictions", lambda run, data: Probs(age, np.array(runs[key[run.path]], np.float32))
    )
    monkeypatch.setattr(ideas.finished_runs, "tested", lambda run: {"parameters": 5})
    monkeypatch.setattr(ideas.finished_runs, "seconds", lambda run: 1.0)
    progress = types.SimpleNamespace(prepare=None)
    result = ideas.summary(tmp_path, [0, 1, 2], "faces.tar", progress)
    rows = {row["name"]: row for row in result["runs"]}
    assert rows["probs"]["by_seed"]["gender_accuracy"] == pytest.approx([1 / 3, 1 / 3, 1])
    assert rows["age alone"]["gender_accuracy"] is None and rows["age alone"]["age_accuracy"] == 1
    differences = {row["name"]: row for row in result["comparisons"]}
    assert differences["both tasks minus age alone"]["gender_accuracy"] is None
    ensemble = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]])  # male 0.55 for a disagreement of the two nets, else theirs
    two = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])  # of seeds 0 and 1, 1 and 2, 2 and 0
    right = [np.mean(of == np.array([0, 1, 1]), axis=1) for of in (ensemble, two)]
    by_seed = differences["ensemble minus two ResNet-18"]["gender_accuracy"]["by_seed"]
    assert by_seed == pytest.approx(list(right[0] - right[1]))
    assert "gender fed as logits minus not fed" not in differences
    fewer = ideas.summary(tmp_path, [0, 1], "faces.tar", progress)["comparisons"]  # of which two nets are one pair
    assert {row["name"] for row in fewer} == differences.keys() - {
        "ensemble minus two ResNet-18",
        "ensemble minus two Attention-56",
    }
    text = ideas.table(result)
    assert "| age alone | 5 | 1.000 |  | 0.000 |" in text
