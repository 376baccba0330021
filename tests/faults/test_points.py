"""Every point of the fault campaign at its small size."""

import pytest

from tests.faults import campaign, registry

POINTS = [point for point in registry.load().values() if point.push]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_fault_ends_as_promised(point, tmp_path):
    outcome = point.measure("push", tmp_path)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.trials >= 1 and outcome.failures == []


def test_results_are_stored_and_resumed(tmp_path, monkeypatch, capsys):
    calls = []

    def run(trials, rng, folder):
        calls.append((trials, rng.random(), list(folder.iterdir())))
        return registry.Outcome(trials, [f"{folder}/x is gone"], {"most": 1})

    chosen = {"a.b": registry.Point("a.b", "x", run, 0, 3), "a.c": registry.Point("a.c", "y", run, 1, 0)}
    monkeypatch.setattr(registry, "load", lambda: chosen)
    monkeypatch.setattr(campaign, "settle_environment", lambda folder: None)
    monkeypatch.setattr("sys.argv", ["campaign", f"--out={tmp_path / 'faults.json'}"])
    assert campaign.main() == campaign.main() == 1 and len(calls) == 1 and calls[0][::2] == (3, [])
    row = campaign.read(tmp_path / "faults.json")["a.b"]
    assert (row["trials"], row["failures"], row["failed"], row["seed"]) == (3, 1, ["FOLDER/x is gone"], 0)
    assert "| `a.b` | x | 2 of 3 |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["campaign", f"--out={tmp_path / 'faults.json'}", "--again"])
    assert campaign.main() == 1 and calls[1] == calls[0]


def test_a_point_that_fails_itself_is_a_failure(tmp_path):
    point = registry.Point("a.b", "x", lambda *args: 1 / 0, 1, 1)
    row = campaign.measure(point, "push", tmp_path, 0)
    assert row["failures"] == 1 and "ZeroDivisionError" in row["failed"][0]


def test_the_page_has_the_table_of_the_results():
    assert f"\n{campaign.table(campaign.read(campaign.RESULTS))}\n\n" in campaign.PAGE.read_text()
    assert not [name for name, row in campaign.read(campaign.RESULTS).items() if row["failures"]]


def test_the_table_counts_the_variants_of_a_point_together_and_replaces_the_one_before():
    rows = {f"a.b[{i}]": {"what": "x", "trials": 10, "failures": i} for i in range(2)}
    rows |= {"a.c": {"what": "y", "trials": 0, "failures": 0, "skipped": "no root"}}
    text = campaign.table(rows)
    assert text.splitlines()[2:] == ["| `a.b` | x | 19 of 20 |", "| `a.c` | y | no root |"]
    page = f"before\n\n{campaign.table({})}\n\nafter\n"
    assert campaign.with_table(page, text) == f"before\n\n{text}\n\nafter\n"
