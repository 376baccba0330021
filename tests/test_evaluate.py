"""The evaluation command in this process: its results, and the folders that no command writes into."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs
from tiny_runs import evaluate

from agegender_jax import config as config_lib
from agegender_jax import files, synthetic
from agegender_jax.checkpoint import Checkpoints, load_variables
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.run import align, audit, explain, train
from agegender_jax.run import evaluate as evaluate_command
from agegender_jax.run.ablate import ablation
from agegender_jax.run.baselines.command import baselines
from agegender_jax.run.explanations import explain_evaluation
from agegender_jax.run.scoring import attention_figure, named_runs, scored_images, write_results
from agegender_jax.run.workdir import Workdir, make_out


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny_runs.make_config(tmp_path_factory.mktemp("data"), 60)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return tiny_runs.make_run(tmp_path_factory.mktemp("runs") / "run", config)


def inspect(config, out):
    cache = config.data.cache_dir
    return audit.inspect(config.data.source, out=out, workdirs=[], split_seed=0, cache_dir=cache, command=[])


def untrained(path):
    """Return a workdir with the default config and nothing else."""
    path.mkdir(parents=True)
    Workdir(path).write_config(config_lib.to_dict(config_lib.default()))
    return path


def test_a_run_named_twice_is_refused(tmp_path, monkeypatch):
    first, second = untrained(tmp_path / "runs" / "a"), untrained(tmp_path / "runs" / "b")
    (tmp_path / "link").symlink_to(first)
    monkeypatch.chdir(tmp_path / "runs")
    for same in (str(first), "a", "b/../a", str(tmp_path / "link")):
        with pytest.raises(ConfigError, match=f"a run is named twice: {first}") as caught:
            named_runs.read_runs([str(first), str(second), same])
        assert caught.value.where == f"--workdir={same}"
    assert len(named_runs.read_runs([str(first), "b"])[0]) == 2


def test_an_untrusted_config_cannot_name_a_folder_to_write_to(run, config, tmp_path):
    own = named_runs.read_config(Workdir(run))
    assert scored_images.data_config([Workdir(run)], [own], None).data.cache_dir == config.data.cache_dir
    (tmp_path / "cache").mkdir()
    for place in (tmp_path / "cache", tmp_path / "absent"):
        theirs = own | {"data": own["data"] | {"cache_dir": str(place)}}
        assert scored_images.data_config([Workdir(run)], [theirs], None).data.cache_dir == ""


def test_names_are_unique_and_not_the_ensembles():
    assert named_runs.member_names(["ran", "ran", "ensemble", "ran"]) == ["ran", "ran-2", "ensemble-2", "ran-3"]


@pytest.mark.parametrize("command", ["train", "solve", "ablate", "baselines", "evaluate", "audit", "align"])
def test_no_command_writes_into_its_source(command, run, config):
    inside = str(Path(config.data.source) / "out")
    solved = config.copy_and_resolve_references()
    solved.update(init_from=str(run))
    solved.model.update(head="ridge", gender_to_age="none", dropout=0.0)
    flag, call = {
        "train": ("--workdir", lambda: train.fit(config, inside, [])),
        "solve": ("--workdir", lambda: train.fit(solved, inside, [])),
        "ablate": ("--workdir", lambda: ablation.ablate(config, ["model.width=0.125,0.25"], [0], inside, [], False)),
        "baselines": ("--workdir", lambda: baselines(config, inside, ["resnet18"], [])),
        "evaluate": ("--out", lambda: evaluate(run, out=inside)),
        "audit": ("--out", lambda: inspect(config, inside)),
        "align": ("--out", lambda: align.align(config.data.source, out=inside, size=32, score=0.7)),
    }[command]
    with pytest.raises(ConfigError, match=f"{flag} is inside the data source"):
        call()
    assert not Path(inside).exists()


@pytest.mark.parametrize("command", ["train", "solve", "ablate", "baselines"])
def test_no_command_writes_into_the_images_that_it_only_trains_on(command, run, config, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    config = config.copy_and_resolve_references()
    config.data.train_on = str(more)
    inside = str(more / "out")
    solved = config.copy_and_resolve_references()
    solved.update(init_from=str(run))
    solved.model.update(head="ridge", gender_to_age="none", dropout=0.0)
    call = {
        "train": lambda: train.fit(config, inside, []),
        "solve": lambda: train.fit(solved, inside, []),
        "ablate": lambda: ablation.ablate(config, ["model.width=0.125,0.25"], [0], inside, [], False),
        "baselines": lambda: baselines(config, inside, ["resnet18"], []),
    }[command]
    with pytest.raises(ConfigError, match="--workdir is inside the data source"):
        call()
    assert not Path(inside).exists()


def test_results_of_other_members_splits_or_sources_are_not_replaced(run, config, tmp_path):
    other = tiny_runs.make_run(tmp_path / "other", config, seed=1, test=False)
    out = tmp_path / "out"
    first = evaluate(run, out=out)
    before = (out / "results.json").read_bytes()
    synthetic.write_faces(tmp_path / "faces", 20, seed=7, size=32)
    for runs, options in (
        ([other], {}),
        ([run, other], {}),
        ([run], {"split": "val", "allow_leak": True}),
        ([run], {"source": str(tmp_path / "faces"), "split": "test"}),
    ):
        with pytest.raises(ConfigError, match=f"--out holds other results: {run} on the test split of faces"):
            evaluate(*runs, out=out, **options)
        assert (out / "results.json").read_bytes() == before
    again = evaluate(run, out=out, calibrate=False)  # the same question with another option
    assert again["n"] == first["n"] and not again["calibrated"]
    (out / "results.json").write_text("{")
    assert evaluate(other, out=out)["models"][0]["name"] == "other"


def explain_one(picture, *runs, out):
    options = {"methods": ["grad_cam"], "heads": ["age"], "checkpoint": "best", "scores": False}
    return explain.explain_photos([str(picture)], [str(run) for run in runs], out=str(out), **options)


def test_explanations_of_other_runs_are_not_replaced(run, config, tmp_path):
    other = shutil.copytree(run, tmp_path / "other" / "run")  # writes files of the same names
    first, second = sorted(Path(config.data.source).iterdir())[:2]
    out = tmp_path / "out"
    explain_one(first, run, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"--out holds other results: explanations of {run}") as caught:
        explain_one(second, other, out=out)
    assert caught.value.where == str(out) and {path: path.read_bytes() for path in before} == before
    assert len(explain_one(second, run, out=out)["images"]) == 1  # the same run explains another photo there


def test_the_audit_of_another_source_is_not_replaced(config, tmp_path):
    folder = tmp_path / "a" / "faces"
    synthetic.write_faces(folder, 3, seed=1, size=32)
    options = {"workdirs": [], "split_seed": 0, "cache_dir": config.data.cache_dir}

    def audit_of(source, *command):
        return audit.inspect(str(source), out=str(tmp_path / "out"), command=command, **options)

    audit_of(folder, "--source=a/faces")
    before = (tmp_path / "out" / "audit.json").read_bytes()
    with pytest.raises(ConfigError, match="--out holds other results: the audit of faces, fingerprint "):
        audit_of(config.data.source, "--source=faces")
    assert (tmp_path / "out" / "audit.json").read_bytes() == before
    assert audit_of(folder, "--source=a/faces", "--split_seed=0")["n"] == 3
    next(folder.iterdir()).unlink()  # the same command after a file was removed
    assert audit_of(folder, "--source=a/faces", "--split_seed=0")["n"] == 2


@pytest.mark.parametrize("where", ["", "reports/new", "figures", "checkpoints", "link"])
def test_no_command_writes_into_the_folder_of_a_run(run, config, tmp_path, where):
    out = run / where
    if where == "link":
        out = tmp_path / "link"
        out.symlink_to(run)
    names = {path.relative_to(run): path.stat().st_mtime_ns for path in run.rglob("*")}
    message = re.escape(f"--out must not lie in the folder of a run, whose results it could replace: {run}")
    commands = (
        lambda: evaluate(run, out=out, split="val", allow_leak=True),
        lambda: inspect(config, str(out)),
        lambda: explain.explain_photos(
            [str(next(Path(config.data.source).glob("*.jpg")))],
            [str(run)],
            methods=["grad_cam"],
            heads=["age"],
            checkpoint="best",
            out=str(out),
            scores=False,
        ),
    )
    for command in commands:
        with pytest.raises(ConfigError, match=message):
            command()
    assert {path.relative_to(run): path.stat().st_mtime_ns for path in run.rglob("*")} == names


def test_no_command_writes_into_a_run_that_has_just_started(tmp_path):
    with Workdir(tmp_path / "run"), pytest.raises(ConfigError, match="must not lie in the folder of a run"):
        make_out(tmp_path / "run")
    make_out(tmp_path / "reports" / "new")


def test_training_does_not_replace_the_results_of_an_evaluation(run, config, tmp_path):
    evaluate(run, out=tmp_path / "report")
    before = (tmp_path / "report" / "results.json").read_bytes()
    with pytest.raises(ConfigError, match="the workdir holds the results of an evaluation"):
        train.fit(config, str(tmp_path / "report"), ["test"])
    assert (tmp_path / "report" / "results.json").read_bytes() == before


URLS = ("s3://b/x", "gs://bucket/run", "http://host/a.zip", "hdfs://nn:8020/x", "file:///tmp/x")


@pytest.mark.parametrize("url", URLS)
def test_remote_paths_are_refused_before_any_work(run, config, tmp_path, url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = re.escape(f"{url} is a URL; only paths of this machine can be used")
    for field in ("source", "cache_dir", "train_on", "exclude", "splits"):
        changed = config.copy_and_resolve_references()
        changed.data[field] = url
        with pytest.raises(ConfigError, match=message):
            train.fit(changed, str(tmp_path / "w"), ["test"])
        assert not (tmp_path / "w").exists()
    changed = config.copy_and_resolve_references()
    changed.init_from = url
    commands = (
        lambda: train.fit(changed, str(tmp_path / "w"), ["test"]),
        lambda: train.fit(config, url, ["test"]),
        lambda: evaluate(run, out=url),
        lambda: evaluate(url, out=tmp_path / "out"),
        lambda: evaluate(run, out=tmp_path / "out", source=url),
        lambda: inspect(config, url),
        lambda: explain.explain_photos(
            [url], [str(run)], methods=[], heads=["age"], checkpoint="best", out=str(tmp_path / "out"), scores=False
        ),
    )
    for command in commands:
        with pytest.raises(ConfigError, match=message):
            command()
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


@pytest.mark.parametrize("path", ["a:b", "runs/s3:/x", "C:/x", "/tmp/x", "a//b"])
def test_local_paths_with_colons_are_paths(path):
    assert str(files.expand(path, "--out")) == path.replace("//", "/")


def test_intervals_take_copies_as_one_image(run, tmp_path):
    folder = tmp_path / "faces"
    names = [path.name for path in synthetic.write_faces(folder, 12, seed=7, size=32)]
    once = evaluate(run, out=tmp_path / "once", source=str(folder))
    for name in names:
        shutil.copy(folder / name, folder / f"{name[:-4]}-copy.jpg")
    twice = evaluate(run, out=tmp_path / "twice", source=str(folder))
    assert once["intervals"] == {"unit": "group of near-duplicates", "n": 12} == twice["intervals"]
    assert (once["n"], twice["n"]) == (12, 24)
    for name in ("age_accuracy", "gender_accuracy"):
        assert twice["models"][0][name] == once["models"][0][name]
        assert twice["models"][0]["ci95"][name] == pytest.approx(once["models"][0]["ci95"][name])
    for kind in ("gender", "age"):
        for name, row in once["groups"][kind].items():
            copies = twice["groups"][kind][name]
            assert copies["n"] == 2 * row["n"]
            assert copies["ci95"]["age_accuracy"] == pytest.approx(row["ci95"]["age_accuracy"])


def test_an_empty_split_is_refused(config, run, tmp_path):
    synthetic.write_faces(tmp_path / "few", 3, seed=5, size=32)
    with pytest.raises(DataError, match="the test split is empty"):
        evaluate(run, out=tmp_path / "out", source=str(tmp_path / "few"), split="test")


def test_evaluation_repeats_the_results_of_training(run, tmp_path):
    evaluate(run, out=tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    own = json.loads((run / "results.json").read_text())
    assert results["models"] == own["models"] and results["groups"] == own["groups"]


@pytest.fixture
def still_trained(run, tmp_path, monkeypatch):
    """A function that returns a run which, once its checkpoint of step 2 is scored, saves `count` better ones."""

    def begin(count):
        training = Path(shutil.copytree(run, tmp_path / "still_trained"))

        def predict_member(*arguments):
            member = predict(*arguments)
            variables, config, _ = load_variables(training / "checkpoints")
            checkpoints = Checkpoints(training / "checkpoints")
            for step in range(3, 3 + count):
                better = jax.tree.map(lambda leaf: leaf + 1, variables)
                checkpoints.save(step, better, config, {"val_loss": -step, "calibrated_loss": -step})
            checkpoints.finish()
            checkpoints.close()
            assert load_variables(training / "checkpoints")[2] == 2 + count
            return member

        monkeypatch.setattr(evaluate_command, "predict_member", predict_member)
        return training

    predict = evaluate_command.predict_member
    return begin


def test_the_scored_checkpoint_is_explained_and_not_a_better_one_since(still_trained, tmp_path, monkeypatch):
    class Explained(Exception):
        pass

    def compute_maps(net, variables, images, **_):
        raise Explained(variables)

    monkeypatch.setattr(explain_evaluation, "compute_maps", compute_maps)
    training = still_trained(1)
    with pytest.raises(Explained) as explained:
        evaluate(training, out=tmp_path / "out", explain=2)
    jax.tree.map(np.testing.assert_array_equal, explained.value.args[0], load_variables(training / "checkpoints", 2)[0])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["models"][0]["step"] == 2


def test_the_scores_are_written_if_their_checkpoint_is_removed_before_it_is_explained(still_trained, tmp_path):
    training = still_trained(2)
    with pytest.raises(CheckpointError, match="scores are written, but step 2 .* no checkpoint of step 2") as caught:
        evaluate(training, out=tmp_path / "out", explain=2)
    assert caught.value.where == str(training / "checkpoints") and "repeat the command" in caught.value.fix
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["models"][0]["step"] == 2 and "explanations" not in results


def test_the_scores_are_written_if_their_checkpoint_is_removed_before_its_masks_are_drawn(
    still_trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(attention_figure, "has_masks", lambda model: True)
    monkeypatch.setattr(write_results.report, "draw", lambda *_: {})
    results = evaluate(still_trained(2), out=tmp_path / "out", draw=True)
    assert results["models"][0]["step"] == 2 and (tmp_path / "out" / "results.json").exists()
    warning = "WARNING: no figure of the attention masks of still_trained: there is no checkpoint of step 2"
    assert warning in capsys.readouterr().out.splitlines()
    assert not any((tmp_path / "out" / "figures").iterdir())
