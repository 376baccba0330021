"""The recipe ladder: its rungs, its arithmetic, and the table in docs/recipe.md."""

import collections
import csv
import json
import pathlib

import numpy as np
import pytest

from agegender_jax import config as config_lib
from agegender_jax import models, synthetic
from agegender_jax.configs import best
from agegender_jax.errors import ConfigError
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.run import train
from agegender_jax.run.workdir import Workdir, finished_runs
from benchmarks import recipe_ladder, result_files

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "recipe.md"


@pytest.mark.parametrize("name", recipe_ladder.BY_NAME)
def test_every_rung_is_a_valid_config_that_differs_from_the_one_it_changes(name):
    config, rung = recipe_ladder.config_of(name, 3, "faces"), recipe_ladder.BY_NAME[name]
    result = dict(config_lib.flat(config))
    assert config.seed == 3 and config.data.source == "faces"
    if rung.on:
        base = dict(config_lib.flat(recipe_ladder.config_of(rung.on, 3, "faces")))
        assert {field for field in result if result[field] != base[field]} == set(rung.fields)


@pytest.mark.parametrize("name", [rung.name for rung in recipe_ladder.RUNGS if rung.start])
def test_weights_to_start_from_are_not_chosen_on_val(name):
    """The best of a single evaluation is the last step."""
    extra = {"utkface": "more", "fairface": "more"}
    config = recipe_ladder.config_of(name, 0, "faces", extra, start=True)
    assert config.eval.every_epochs == config.num_epochs


def test_the_competitive_config_is_a_rung():
    """It differs in size and in what depends on the length of the run."""
    top = dict(config_lib.flat(recipe_ladder.config_of("best", 0, "data/crop_part1")))
    shipped = dict(config_lib.flat(best.get_config()))
    differing = {field for field in top if top[field] != shipped[field]}
    size = {"model.width", "data.image_size"}
    assert differing == size | {"num_epochs", "optimizer.ema", "eval.every_epochs", "eval.views", "log.figures"}


def test_every_option_at_once_trains_and_is_tested(tmp_path, monkeypatch):
    one_module = {"modules": (1,), "channels": (64,), "depths": (1,), "final_units": 0, "t": 1}
    monkeypatch.setitem(models.BACKBONES, "ran56", (ResidualAttentionNet, one_module))
    for name, seed in (("own", 0), ("more", 1)):
        synthetic.write_faces(tmp_path / name, 60, seed=seed, size=32)
    config = best.get_config("ran,cpu")
    config.update({"num_steps": 2, "batch_size": 32, "accumulate": 2, "remat": True, "log": {"figures": False}})
    config.model.update(width=0.125, stochastic_depth=0.2)
    config.optimizer.update(layer_decay=0.8, freeze=1)
    config.loss.update(age="years", age_spread=0.3, age_balance=0.3)
    config.augment.mixup = 0.2
    config.eval.update(views="flip_shift", bn_batches=1)
    config.data.update(source=str(tmp_path / "own"), train_on=str(tmp_path / "more"), image_size=32)
    config.data.cache_dir = str(tmp_path / "cache")
    (tmp_path / "exclude.csv").write_text(f"file\nmore/{min(path.name for path in (tmp_path / 'more').iterdir())}\n")
    config.data.exclude = str(tmp_path / "exclude.csv")
    train.fit(config, str(tmp_path / "run"), ["test"])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows] == ["train", "val"] and np.isfinite([row["loss"] for row in rows]).all()
    splits = collections.Counter(
        line.split(",")[1] for line in (tmp_path / "run" / "splits.csv").read_text().splitlines()
    )
    assert splits["train"] == 48 + 59 and splits["val"] == splits["test"] == 6 and splits[""] == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["n"] == 6 and not results["allow_leak"]


def row(rung, seed, age, gender=(1, 1), aabd=(0, 0)):
    outcomes = {"age_accuracy": age, "gender_accuracy": gender, "aabd": aabd}
    return {"rung": rung, "seed": seed, "seconds": 5.0, "fingerprint": "f", "made_by": {}, "outcomes": outcomes}


def test_a_rung_is_compared_with_the_one_it_changes_seed_by_seed():
    rows = [row("shipped", 0, [0, 0]), row("shipped", 1, [1, 0]), row("AdamW", 1, [1, 1]), row("AdamW", 2, [0, 0])]
    result = recipe_ladder.summary(rows)
    shipped, adamw = result["rungs"]
    assert (result["n"], shipped["age_accuracy"], adamw["age_accuracy"]) == (2, 0.25, 0.5)
    assert shipped["age_accuracy_gain"] is None and adamw["seeds"] == [1, 2]
    gain = adamw["age_accuracy_gain"]
    assert gain["by_seed"] == [0.5]  # of seed 1 alone, which both have
    table = recipe_ladder.table(result)
    assert "| shipped | - | - | 2 | 0.250 | " in table
    assert (
        "| AdamW | shipped | `batch_size=64` `optimizer.lr=0.001` `optimizer.weight_decay=0.05` | 2, 1 shared "
        "| 0.500, +0.500 [" in table
    )


def test_the_table_shows_the_fields_of_the_run_that_a_rung_starts_from_first():
    (line,) = [
        line for line in recipe_ladder.table(recipe_ladder.summary([row("UTKFace first", 0, [1])])).splitlines()[2:]
    ]
    start, then = "`num_epochs=10` `data.train_on={utkface}`", "`num_epochs=12`"
    assert line.startswith(f"| UTKFace first | 30 epochs | {start}, then {then} | 1 | 1.000 |")


def test_near_duplicates_are_one_unit_of_an_interval():
    """Of 40 images in 2 groups, an interval is as wide as that of 2 images."""
    gained = [1] * 20 + [0] * 20
    rows = [row("shipped", 0, [0] * 40, gained, gained), row("AdamW", 0, gained, gained, gained)]
    alone, together = (
        recipe_ladder.summary(rows, group)["rungs"][1]["age_accuracy_gain"]["ci95"]
        for group in (None, np.repeat([7, 9], 20))
    )
    assert together == [0.0, 1.0] and 0.2 < alone[0] < alone[1] < 0.8


def test_runs_are_scored_at_their_last_step_and_not_trained_twice(tmp_path, monkeypatch):
    calls = []
    member = type("Member", (), {"probs": None, "step": 7, "parameters": 1})
    prepared = type("P", (), {"fingerprint": "f", "file": np.array(["own/b", "own/c", "own/a"])})
    faces = type(
        "Faces",
        (),
        {"prepared": prepared, "targets": lambda self, split: (split, 0), "indices": lambda self, split: [0, 2]},
    )
    monkeypatch.setattr(
        recipe_ladder.train,
        "fit",
        lambda config, folder, *rest: pathlib.Path(folder, "checkpoints").mkdir(parents=True),
    )
    monkeypatch.setattr(recipe_ladder.dataset, "load_dataset", lambda config, progress: faces())
    monkeypatch.setattr(recipe_ladder.finished_runs, "seconds", lambda folder: 1.0)

    def predict(folder, which, faces, split, *rest, **options):
        calls.append((which, split))
        member.probs = type("Probs", (), {"age": np.eye(2), "gender": np.eye(2)})
        return member

    scored = {name: np.array([0, 1]) for name in recipe_ladder.SCORES}
    monkeypatch.setattr(recipe_ladder, "predict_member", predict)
    monkeypatch.setattr(recipe_ladder.metrics, "outcomes", lambda *args: scored)
    progress = type("Progress", (), {"prepare": None})
    rows = [recipe_ladder.run("shipped", 0, "faces", tmp_path, progress) for _ in range(2)]
    assert calls == [("latest", "val")] and rows[0] == rows[1]
    assert rows[0]["outcomes"]["aabd"] == [1, 0]  # in the order of the files: a, b
    assert not (tmp_path / "shipped" / "seed0" / "checkpoints").exists()
    run = Workdir(tmp_path / "shipped" / "seed0")
    changed = recipe_ladder.config_of("AdamW", 0, "moved/faces").to_dict()
    for earlier, text in ((changed, "batch_size: 64 -> 16"), (changed | {"num_epochs": 5}, "num_epochs: 5 -> 12")):
        run.write_config(earlier)
        with pytest.raises(ConfigError, match=text):
            recipe_ladder.run("shipped", 0, "faces", tmp_path, progress)
    run.write_config(recipe_ladder.config_of("shipped", 0, "moved/faces").to_dict())
    assert recipe_ladder.run("shipped", 0, "faces", tmp_path, progress) == rows[0]
    assert recipe_ladder._has_other_images(rows[0], "g") and not recipe_ladder._has_other_images(rows[0], "f")


def test_rungs_with_more_images_are_scored_on_the_same_ones(tmp_path, monkeypatch):
    """And those that start from other images have not seen copies of them."""
    for name, count, seed in (("own", 60, 0), ("more", 30, 1)):
        synthetic.write_faces(tmp_path / name, count, seed=seed, size=32)
    original = recipe_ladder.config_of

    def small(*args, **options):
        config = original(*args, **options)
        config.update({"num_steps": 1, "batch_size": 8, "model": {"name": "levi_hassner", "width": 0.1}})
        config.data.update(image_size=32, cache_dir=str(tmp_path / "cache"))
        return config

    monkeypatch.setattr(recipe_ladder, "config_of", small)
    for path in sorted((tmp_path / "own").iterdir()):  # each again in the other source
        (tmp_path / "more" / f"{path.stem}_copy{path.suffix}").write_bytes(path.read_bytes())
    source, extra = str(tmp_path / "own"), {"utkface": str(tmp_path / "more")}
    with recipe_ladder.Progress(silent=True) as progress:
        for name in ("shipped", "with UTKFace", "UTKFace first"):
            row = recipe_ladder.run(name, 0, source, tmp_path, progress, extra)
        group = recipe_ladder.groups(recipe_ladder.own_faces(source, progress))
    parts = [finished_runs.seconds(Workdir(tmp_path / "UTKFace_first" / part)) for part in ("start0", "seed0")]
    assert row["seconds"] == sum(parts) and min(parts) > 0
    assert len(group) == len(set(group)) == 6
    splits = {}
    for folder in ("shipped/seed0", "with_UTKFace/seed0", "UTKFace_first/start0", "UTKFace_first/seed0"):
        with open(tmp_path / folder / "splits.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        splits[folder] = {
            split: {row["file"].removeprefix("own/") for row in rows if row["split"] == split}
            for split in ("train", "val", "test")
        }
    scored = [{split: of[split] for split in ("val", "test")} for of in splits.values()]
    assert all(of == scored[0] for of in scored) and len(scored[0]["val"]) == 6
    own, joint, first, then = (of["train"] for of in splits.values())
    assert len(own) == 48 and then == own and joint == own | first and first.isdisjoint(own)
    assert len(first) == 30 + 48 and all(name.startswith("more/") for name in first)


def test_measured_rungs_are_not_dropped_from_the_results(tmp_path, monkeypatch, capsys):
    """Neither misspelt names nor another --workdir leads to a shorter table."""
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    monkeypatch.setattr(recipe_ladder, "own_faces", lambda *args: None)
    faces = type("Faces", (), {"prepared": type("P", (), {"fingerprint": "f"})})
    monkeypatch.setattr(recipe_ladder, "own_faces", lambda *args: faces)
    monkeypatch.setattr(recipe_ladder, "groups", lambda faces: None)
    monkeypatch.setattr(recipe_ladder.compile_cache, "turn_on", lambda: None)
    monkeypatch.setattr(recipe_ladder, "run", lambda *args: pytest.fail("trained"))
    before = json.dumps({"rungs": [{"name": "shipped"}, {"name": "AdamW"}]})
    (tmp_path / "recipe_ladder.json").write_text(before)
    for arguments, text in (
        (["--source=faces", "--only=mixupp"], "did you mean mixup?"),
        (["--only=mixup"], "--source is missing"),
        (["--source=faces", "--only=AdamW,mixup"], "lacks: shipped; name another --results"),
    ):
        monkeypatch.setattr("sys.argv", ["recipe_ladder", f"--workdir={tmp_path / 'runs'}", *arguments])
        with pytest.raises(SystemExit):
            recipe_ladder.main()
        assert text in capsys.readouterr().err
    assert (tmp_path / "recipe_ladder.json").read_text() == before


@pytest.mark.parametrize("name", ["recipe_ladder", "recipe_ladder_options"])
def test_the_documented_tables_are_those_of_the_results(name):
    assert recipe_ladder.table(result_files.read(name)) in DOCS.read_text()


def test_no_interval_of_the_options_excludes_zero():
    """As docs/recipe.md says."""
    rows = result_files.read("recipe_ladder_options")["rungs"]
    intervals = [row[f"{score}_gain"]["ci95"] for row in rows[1:] for score in recipe_ladder.SCORES]
    assert len(intervals) == 15 and all(low < 0 < high for low, high in intervals)
