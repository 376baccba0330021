"""Scores inside groups, cells of three, and gaps."""

import numpy as np
import pytest

from agegender_jax import metrics
from agegender_jax.labels import GENDERS, RACES


def grouped(count=400, seed=0):
    rng = np.random.default_rng(seed)
    years, gender, race = rng.integers(0, 90, count), rng.integers(0, 2, count), rng.integers(0, 4, count)
    race[:10] = 4
    age = np.stack([years // 10] * 2, 1)
    examples = rng.dirichlet(np.ones(12), count), rng.dirichlet(np.ones(2), count), age, gender
    return examples, race, years


def test_rows_are_the_scores_of_the_group():
    examples, race, years = grouped()
    rows = metrics.by_group(*examples, race, metrics.age_bands(years, years.astype(str)))
    assert set(rows["race"]) == set(RACES) and rows["race"]["Others"]["small"] and not rows["race"]["White"]["small"]
    women = examples[3] == 1
    row = rows["gender"]["female"]
    expected = metrics.scores(*(x[women] for x in examples))
    assert {name: row[name] for name in metrics.SCORES} == expected and row["n"] == women.sum()
    inside = {name: values[women] for name, values in metrics.outcomes(*examples).items()}
    assert row["ci95"]["age_accuracy"] == metrics.wilson(inside["age_accuracy"])
    assert row["ci95"]["aabd"] == metrics.bootstrap(inside["aabd"])
    assert list(rows["age"]) == [f"{a}-{a + 9}" for a in range(0, 90, 10)]


def test_cells_contain_every_face_once():
    examples, race, years = grouped()
    cells = metrics.by_group(*examples, race, metrics.age_bands(years, years.astype(str)))["cells"]
    assert sum(cell["n"] for cell in cells) == 400 and all(cell["n"] for cell in cells)
    names = [(cell["age"], cell["gender"], cell["race"]) for cell in cells]
    bands = ["0-17", "18-29", "30-44", "45-59", "60+"]
    assert names == sorted(set(names), key=lambda n: (bands.index(n[0]), GENDERS.index(n[1]), RACES.index(n[2])))
    cell = next(c for c in cells if (c["age"], c["gender"], c["race"]) == ("30-44", "male", "Black"))
    members = (years >= 30) & (years <= 44) & (examples[3] == 0) & (race == 1)
    assert cell["n"] == members.sum() and cell["aabd"] == pytest.approx(
        metrics.scores(*(x[members] for x in examples))["aabd"]
    )


def test_an_interval_is_left_out_where_all_are_equally_wrong():
    same, age = np.zeros(40, int), np.full((40, 2), 2)
    rows = metrics.by_group(np.eye(12)[[4] * 40], np.eye(2)[same], age, same, same, ["x"] * 40)
    assert rows["race"]["White"]["aabd"] == 2 and rows["race"]["White"]["ci95"]["aabd"] is None
    assert rows["race"]["White"]["ci95"]["age_accuracy"][1] > 0  # Wilson's interval of 0 of 40


def test_gaps_leave_small_groups_out():
    examples, race, years = grouped()
    rows = metrics.by_group(*examples, race, metrics.age_bands(years, years.astype(str)))
    large = {name: row["age_accuracy"] for name, row in rows["race"].items() if name != "Others"}
    gap = rows["gaps"]["race"]["age_accuracy"]
    assert gap["largest"] == max(large.values()) - min(large.values())
    assert [large[name] for name in gap["between"]] == [max(large.values()), min(large.values())]
    few = metrics.by_group(*(x[:40] for x in examples), race[:40], ["all"] * 40)
    assert few["gaps"]["gender"] == few["gaps"]["cells"] == dict.fromkeys(metrics.SCORES)


def test_bands_by_years_or_the_labels_own_text():
    years, text = [0, 17, 18, 29, 30, 59, 60, 116, -1], [""] * 8 + ["more than 70"]
    expected = ["0-17", "0-17", "18-29", "18-29", "30-44", "45-59", "60+", "60+", "more than 70"]
    assert metrics.age_bands(np.array(years), text) == expected
    examples, race, _ = grouped(6)
    cells = metrics.by_group(*examples, race, ["more than 70", "0-2", "3-9", "10-19", "0-2", "60-69"])["cells"]
    assert list(dict.fromkeys(cell["age"] for cell in cells)) == ["0-2", "3-9", "10-19", "60-69", "more than 70"]


def test_ranges_and_no_examples():
    age, gender, race = np.array([[2, 2], [2, 2], [7, 11]]), np.array([1, 1, 0]), np.array([0, 0, 4])
    examples = np.eye(12)[[2, 3, 8]], np.eye(2)[[1, 1, 0]], age, gender
    rows = metrics.by_group(*examples, race, ["20-29", "20-29", "more than 70"])
    assert rows["age"]["70+"]["age_accuracy"] == 1 and rows["gender"]["female"]["aabd"] == 0.5
    empty = metrics.by_group(*(x[:0] for x in examples), race[:0], [])
    assert empty["cells"] == [] and empty["gender"] == {} and empty["gaps"]["age"]["aabd"] is None
