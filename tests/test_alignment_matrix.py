"""Chips of two alignments, the same images in the same split, and the table of nets trained on each."""

import csv

import numpy as np
import pytest
import small_run

from agegender_jax.run import evaluate, train
from benchmarks import alignment_matrix

DIGESTS = [f"{number:064x}" for number in range(12)]


def test_a_turn_stays_in_its_range_and_repeats_the_edges():
    y, x = np.mgrid[:120, :120]
    image = np.stack([2 * x, 2 * y, np.full_like(x, 7)], -1).astype(np.uint8)  # each pixel says where it was
    middle = np.s_[40:80, 40:80]
    points = np.stack([x[middle].ravel(), y[middle].ravel(), np.ones(1600)], 1) + (0.5, 0.5, 0)
    rolls, scales, shifts = [], [], []
    for digest in DIGESTS:
        turned = alignment_matrix.turn(image, digest)
        assert turned.shape == image.shape and (turned[..., 2] == 7).all()
        was = turned[middle][..., :2].reshape(-1, 2) / 2 + 0.5
        (a, b), (c, d), offset = np.linalg.lstsq(points, was, rcond=None)[0]
        assert (a - d, b + c) == pytest.approx((0, 0), abs=0.02)  # a similarity
        rolls.append(np.degrees(np.arctan2(b, a)))
        scales.append(1 / np.hypot(a, b))
        shifts.append(60 - np.linalg.solve([[a, c], [b, d]], (60, 60) - offset))  # of the middle
    assert np.abs(rolls).max() < 15.5 and np.ptp(rolls) > 15
    assert 0.89 < min(scales) < max(scales) < 1.11 and np.ptp(scales) > 0.1
    assert np.abs(shifts).max() < 6.3 and np.ptp(shifts, 0).min() > 6
    np.testing.assert_array_equal(alignment_matrix.turn(image, DIGESTS[0]), alignment_matrix.turn(image, DIGESTS[0]))


def report(name, *accuracies):
    models = [
        {"name": net, "age_accuracy": age, "gender_accuracy": 0.5, "aabd": 1.0}
        | {"ci95": {score: (0.0, 1.0) for score in alignment_matrix.SCORES}}
        for net, age in zip(("aligned", "mixed", "ensemble"), accuracies, strict=True)
    ]
    difference = {"difference": accuracies[0] - accuracies[1], "ci95": (-0.2, 0.05)}
    pair = {"a": "aligned", "b": "mixed"} | dict.fromkeys(alignment_matrix.SCORES, difference)
    return {"source": {"name": name}, "models": models, "paired": [pair]}


def test_the_table_has_a_row_for_each_net_and_its_difference_to_the_first():
    lines = alignment_matrix.table([report("aligned_test", 0.6, 0.7, 0.8), report("turned_test", 0.4, 0.5, 0.8)])
    head, _, first, second, difference = lines.splitlines()
    assert "| trained on | aligned_test: age | aligned_test: gender | aligned_test: AABD | turned_test: age |" in head
    assert first.startswith("| aligned | 0.600 [0.000, 1.000] |") and " 0.400 [" in first
    assert second.startswith("| mixed | 0.700 [")
    assert difference.startswith("| mixed minus aligned | +0.100 [-0.050, +0.200] |")


@pytest.mark.slow
def test_the_study_on_few_faces(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    config = small_run.config(tmp_path)
    chips = tmp_path / "alignment"
    alignment_matrix.make(config.data.source, chips)
    names = {
        folder.name: sorted(path.name for path in folder.iterdir()) for folder in chips.iterdir() if folder.is_dir()
    }
    assert len(names["aligned_test"]) == 6 and len(names["aligned_train"]) == 54
    for split in ("train", "test"):
        assert names[f"turned_{split}"] == [f"{name}.png" for name in names[f"aligned_{split}"]]
    trained = {
        "aligned": {"source": "alignment/aligned_train"},
        "turned": {"source": "alignment/turned_train"},
        "mixed": {
            "source": "alignment/aligned_train",
            "train_on": "alignment/turned_train",
            "exclude": "alignment/exclude.csv",
        },
    }
    for name, fields in trained.items():
        run = config.copy_and_resolve_references()
        run.data.update(fields)
        train.fit(run, name, [])
    with open("mixed/splits.csv", newline="") as file:
        parts = {row["file"]: row["split"] for row in csv.DictReader(file)}
    held_out = {name.removeprefix("aligned_train/") for name, part in parts.items() if part in ("val", "test")}
    assert len(held_out) == 10
    for name in names["aligned_train"]:
        assert (parts[f"turned_train/{name}.png"] == "train") == (name not in held_out)
    reports = [
        evaluate.evaluate(
            list(trained),
            source=f"alignment/{test}_test",
            split="all",
            checkpoint="best",
            out=f"reports/{test}_test",
            allow_leak=False,
            draw=False,
        )
        for test in ("aligned", "turned")
    ]
    lines = alignment_matrix.table(reports).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        *(f"| {name}" for name in trained),
        *(f"| {name} minus aligned" for name in ("turned", "mixed")),
    ]


def test_a_difference_is_that_of_either_order():
    pairs = [{"a": "aligned", "b": "turned", "aabd": {"difference": 0.25, "ci95": [-0.125, 0.5]}}]
    assert alignment_matrix._difference(pairs, "aligned", "turned", "aabd") == "+0.250 [-0.125, +0.500]"
    assert alignment_matrix._difference(pairs, "turned", "aligned", "aabd") == "-0.250 [-0.500, +0.125]"
