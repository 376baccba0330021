"""Variants over seeds: parsing, training, resumption and comparison."""

import contextlib
import csv
import io
import json
import pathlib
import re
import shlex
import shutil
import signal
import types

import numpy as np
import programs
import pytest
import tiny_runs
from programs import check

from agegender_jax import config as config_lib
from agegender_jax.cli import app
from agegender_jax.errors import ConfigError, DataError, Stopped
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.run import dataset, leaks, train
from agegender_jax.run.ablate import ablation, comparison, variants
from agegender_jax.run.workdir import Workdir, finished_runs, write_csv
from agegender_jax.run.workdir.metrics_log import MetricsLog

BASE, OTHER = "model.gender_to_age=probs", "model.gender_to_age=shuffled"
VARY = ["model.gender_to_age=probs,shuffled"]
NAMES = ("age_accuracy", "gender_accuracy", "aabd")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The config of a small job on 160 drawn faces."""
    config = tiny_runs.make_config(tmp_path_factory.mktemp("data"), 160)
    config.num_steps, config.log.every_steps, config.checkpoint.every_steps = 4, 1, 2
    return config


@pytest.fixture
def config(small):
    return small.copy_and_resolve_references()


@pytest.fixture(scope="module")
def out(small, tmp_path_factory):
    """An ablation of two variants and two seeds that was stopped in its second run and started again."""
    folder = tmp_path_factory.mktemp("ablation") / "feed"

    def fit_until_stopped(config, workdir, command):
        stopped = OTHER in workdir
        tiny_runs.make_run(pathlib.Path(workdir), config, step=2 if stopped else 4, test=not stopped)
        if stopped:
            raise Stopped(75, 2)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ablation.train, "fit", fit_until_stopped)
        ablate(small.copy_and_resolve_references(), folder)
    assert json.loads((folder / "ablation.json").read_text())["differences"] == []
    assert (folder / BASE / "seed0" / "results.json").exists() and not (folder / BASE / "seed1").exists()

    fit = train.fit

    def fit_the_stopped_run(config, workdir, command):
        if OTHER in workdir and config.seed == 0:
            fit(config, workdir, command)
        else:
            tiny_runs.make_run(pathlib.Path(workdir), config, seed=config.seed)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(ablation.train, "fit", fit_the_stopped_run)
        ablate(small.copy_and_resolve_references(), folder)
    (folder / "stdout").write_text(printed.getvalue())
    return folder


def ablate(config, out, seeds=(0, 1), vary=VARY):
    return ablation.ablate(config, vary, seeds, str(out), ["test"], ensemble=True)


def rows(out, name, seed):
    with open(out / name / f"seed{seed}" / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def right(row):
    """Return age_accuracy, gender_accuracy and aabd of a row of predictions.csv."""
    distance = abs(AGE_BUCKETS.index(row["age_bucket"]) - int(row["true_age"]) // 10)
    return distance == 0, row["gender"] == row["true_gender"], distance


def averaged(members):
    """Return the ensemble's row from its members' rows."""
    female = np.mean([float(row["p_female"]) for row in members])
    ages = [np.mean([float(row[f"p_age_{i}"]) for row in members]) for i in range(len(AGE_BUCKETS))]
    answer = {"age_bucket": AGE_BUCKETS[int(np.argmax(ages))], "gender": "female" if female > 0.5 else "male"}
    return members[0] | answer


def test_a_stopped_ablation_resumes_and_completes_every_run(out):
    output = (out / "stdout").read_text()
    assert f"run 1 of 4: {BASE}, seed 0: finished before" in output and "resumed at step" in output
    assert f"run 4 of 4: {OTHER}, seed 1; about" in output
    result = json.loads((out / "ablation.json").read_text())
    assert [(run["variant"], run["seed"]) for run in result["runs"]] == [(BASE, 0), (OTHER, 0), (BASE, 1), (OTHER, 1)]
    for run in result["runs"]:
        folder = out / run["workdir"]
        config = json.loads((folder / "config.json").read_text())
        assert config["seed"] == run["seed"] and run["variant"].endswith("=" + config["model"]["gender_to_age"])
        assert config["num_steps"] == programs.rows(folder)[-1]["step"] == 4
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [str(run["step"])]  # the best alone
        assert (run["seconds"] > 0) == ((run["variant"], run["seed"]) == (OTHER, 0))  # no step of the others was timed
    assert result["config"]["model"]["name"] == "levi_hassner" and "seed" not in result["config"]
    assert result["made_by"]["versions"]["jax"] and result["made_by"]["command"]
    assert result["vary"] == {"model.gender_to_age": ["probs", "shuffled"]}


def test_scores_and_differences_are_those_of_the_predictions(out):
    result = json.loads((out / "ablation.json").read_text())
    lines = {name: [rows(out, name, seed) for seed in (0, 1)] for name in (BASE, OTHER)}
    lines["ensemble"] = [
        [averaged(pair) for pair in zip(*runs, strict=True)] for runs in zip(*lines.values(), strict=True)
    ]
    outcomes = {name: np.array([[right(row) for row in run] for run in runs], float) for name, runs in lines.items()}
    assert [row["name"] for row in result["variants"]] == list(outcomes)
    for row in result["variants"]:
        means = outcomes[row["name"]].mean(1)  # [seed, score]
        assert [row[name] for name in NAMES] == pytest.approx(means.mean(0).tolist())
        assert [row["by_seed"][name] for name in NAMES] == [pytest.approx(x) for x in means.T.tolist()]
        assert row["control"] == (row["name"] != BASE)
    for run in result["runs"]:
        tested = json.loads((out / run["workdir"] / "results.json").read_text())["models"][0]
        row = next(row for row in result["variants"] if row["name"] == run["variant"])
        assert [row["by_seed"][name][run["seed"]] for name in NAMES] == pytest.approx([tested[n] for n in NAMES])
    pairs = [(OTHER, BASE), ("ensemble", BASE), ("ensemble", OTHER)]
    assert [(each["a"], each["b"]) for each in result["differences"]] == pairs
    for each in result["differences"]:
        expected = (outcomes[each["a"]] - outcomes[each["b"]]).mean(1)
        for i, name in enumerate(NAMES):
            assert each[name]["by_seed"] == pytest.approx(expected[:, i].tolist())
            assert each[name]["ci95"][0] <= each[name]["difference"] <= each[name]["ci95"][1]


def test_the_terminal_output_has_a_table_for_each_pair_and_its_basis(out):
    output = " ".join((out / "stdout").read_text().split())
    assert f"{OTHER} (a control) against {BASE}" in output and f"ensemble (a control) against {BASE}" in output
    assert "16 images, seeds 0, 1" in output and "so few seeds are weak evidence about others" in output
    assert output.count("│ AABD │") == 3 and len(re.findall(r" by \d\.\d{3}", output)) == 9


def test_a_repeated_command_trains_nothing_and_prints_the_same(out, config, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    before = json.loads((out / "ablation.json").read_text())
    ablate(config, out)
    after = json.loads((out / "ablation.json").read_text())
    assert after.pop("made_by")["versions"] == before.pop("made_by")["versions"] and after == before


def test_finished_runs_of_another_config_are_refused_without_ablation_json(out, config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    folder = shutil.copytree(out, tmp_path / "copy")
    (folder / "ablation.json").unlink()
    for fields, text in (
        ({"optimizer": {"lr": 0.5}}, "optimizer.lr: 0.005 -> 0.5"),
        ({"num_steps": 5}, "num_steps: 4"),
    ):
        other = config.copy_and_resolve_references()
        other.update(fields)
        with pytest.raises(ConfigError, match=text):
            ablate(other, folder)
    results = folder / OTHER / "seed1" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"allow_leak": True}))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runs = ablate(config, folder)["runs"]
    assert [run["allow_leak"] for run in runs] == [False, False, False, True]
    assert f"{OTHER}, seed 1, started from a net that has seen test images" in " ".join(printed.getvalue().split())


def test_only_further_seeds_are_trained_and_a_signal_between_runs_stops(out, config, monkeypatch):
    trained = []

    def fit(config, workdir, command):
        trained.append((config.seed, Workdir(workdir).path.relative_to(out).as_posix()))
        Workdir(workdir).path.mkdir(parents=True)
        (Workdir(workdir).path / "results.json").write_text('{"models": [{"step": 7}]}')
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(Stopped, match="step 7") as raised:
        ablate(config, out, seeds=(0, 2, 1))
    assert raised.value.code == 75 and trained == [(2, f"{BASE}/seed2")]


@pytest.mark.parametrize(
    "vary, seeds, texts",
    [
        ([], [0], ["--vary is missing"]),
        (["model.gender_to_agee=probs,none"], [0], ["field model.gender_to_agee", "did you mean model.gender_to_age?"]),
        (["lr=1,2"], [0], ["field lr", "did you mean optimizer.lr?"]),
        (["model=a,b"], [0], ["unknown config field model"]),
        (["model.gender_to_age"], [0], ["one value"]),
        (["model.gender_to_age=probs"], [0], ["one value", "--vary=model.gender_to_age=a,b"]),
        (["model.width=0.5,.5"], [0], ["the same value twice"]),
        (["optimizer.lr=0.1,much"], [0], ["of type float, got 'much'", "the default is 0.005"]),
        (["augment.flip=true,no"], [0], ["true or false, got 'no'"]),
        (["model.name=ran56,ran57"], [0], ["unknown model.name 'ran57'", "variant model.name=ran57", "did you mean"]),
        (["optimizer.lr=0.1,-1"], [0], ["optimizer.lr must be above 0", "variant optimizer.lr=-1"]),
        (["seed=0,1"], [0], ["seed cannot vary", "--seeds"]),
        (["data.split_seed=0,1"], [0], ["data.split_seed cannot vary"]),
        (["data.splits=a,b"], [0], ["data.splits cannot vary", "--config.data.splits"]),
        (["data.train_on=,b"], [0], ["data.train_on cannot vary", "--config.data.train_on"]),
        (["num_steps=1,2", "num_steps=1,3"], [0], ["num_steps varies twice"]),
        (["init_from=a/b,a-b"], [0], ["share a folder"]),
        (VARY, [], ["there are no seeds"]),
        (VARY, [1, 1], ["a seed is named twice"]),
        (VARY, [-1], ["between 0 and"]),
        (["model.learning=residual,none"], [0], ["levi_hassner has no learning", "variant model.learning=none"]),
        (["batch_size=16,20"], [0], ["batch_size 20"]),
        (["loss.teacher_weight=0.5,0.9"], [0], ["loss.teacher_weight has no effect", "variant loss.teacher_weight"]),
        (
            ["model.gender_to_age=none,probs", "model.head=softmax,elm"],
            [0],
            ["needs a trained net", "variant model.head=elm"],
        ),
        (["init_from=,runs/typo"], [0], ["no weights to start from", "variant init_from=runs/typo", "runs/typo"]),
        (
            ["loss.teacher=,runs/typo"],
            [0],
            ["no run and there are no weights called runs/typo", "variant loss.teacher"],
        ),
    ],
)
def test_user_errors_are_reported_before_training(vary, seeds, texts, config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    with pytest.raises(ConfigError) as raised:
        ablate(config, tmp_path / "x", seeds, vary)
    for text in texts:
        assert text in str(raised.value)


@pytest.mark.parametrize("arguments, text", [([], "--workdir is missing"), (["--workdir=x", "--seeds=0,b"], "a seed")])
def test_mistakes_in_flags(arguments, text):
    check(programs.run("ablate", "--config=configs/ran.py", f"--vary={VARY[0]}", *arguments), 2, text)


def test_another_ablation_in_the_folder_is_refused(out, config):
    with pytest.raises(ConfigError, match=r"another ablation: --vary: .*shuffled.* -> .*none"):
        ablate(config, out, vary=["model.gender_to_age=probs,none"])
    config.num_steps, config.optimizer.lr = 5, 0.1
    with pytest.raises(ConfigError, match=r"optimizer.lr: 0.005 -> 0.1; num_steps: 4 -> 5"):
        ablate(config, out)
    with pytest.raises(ConfigError, match="holds a run"):
        ablate(config, out / BASE / "seed0")
    (out.parent / "torn").mkdir()
    (out.parent / "torn" / "ablation.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        ablate(config, out.parent / "torn")


def test_variants_differ_from_the_base_in_one_field_each(config):
    vary = ["optimizer.lr=0.01,0.002", "augment.flip=true,false", "model.name=ran56,resnet18,levi_hassner"]
    base, *rest = variants.parse(config, vary)
    assert base.name == "optimizer.lr=0.01,augment.flip=true,model.name=ran56" == base.folder
    names = ["optimizer.lr=0.002", "augment.flip=false", "model.name=resnet18", "model.name=levi_hassner"]
    assert [variant.name for variant in rest] == names
    for variant in rest:
        ((field, value),) = variant.fields.items()
        first, own = (dict(config_lib.flat(v.config)) for v in (base, variant))
        assert own[field] == value and {name for name in own if own[name] != first[name]} == {field}
    assert variants.parse(config, ["init_from=,runs/a b"])[1].folder == "init_from=runs-a-b"


def test_images_that_only_some_variants_leave_out(config, tmp_path, monkeypatch):
    """The same command resumes; the test images are the same."""
    faces = dataset.load_dataset(config)
    excluded = tmp_path / "exclude.csv"
    write_csv(excluded, ("file",), [[file] for file in faces.prepared.file[faces.indices("train")[:3]]])
    sizes = {}

    def fit(config, workdir, command):
        tiny_runs.make_run(pathlib.Path(workdir), config)
        sizes[config.data.exclude] = (leaks.read_splits(Workdir(workdir)).split == "train").sum()

    monkeypatch.setattr(ablation.train, "fit", fit)
    vary = [f"data.exclude=,{excluded}"]
    first = ablate(config, tmp_path / "out", seeds=(0,), vary=vary)
    assert sizes[""] - sizes[str(excluded)] == 3
    monkeypatch.setattr(ablation.train, "fit", None)
    assert ablate(config, tmp_path / "out", seeds=(0,), vary=vary) == first


def test_the_ablation_script_uses_valid_variants():
    text = (programs.ROOT / "benchmarks" / "ablations.sh").read_text().replace("\\\n", "")
    commands = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("ablate ")]
    counts = {}
    for name, file, *rest in commands:
        config = app.ConfigFile().parse(file.removeprefix("--config="))
        fields = dict(item.removeprefix("--config.").split("=") for item in rest if item.startswith("--config."))
        defaults = dict(config_lib.flat(config))
        config.update_from_flattened_dict({field: type(defaults[field])(value) for field, value in fields.items()})
        vary = [item.removeprefix("--vary=") for item in rest if item.startswith("--vary=")]
        counts[name] = len(variants.parse(config, vary))
    assert counts == {"feed_attention": 3, "tasks": 3, "ensemble": 2, "real_feed": 2}


def test_single_task_variants_are_compared_in_their_own_scores_only(config, monkeypatch):
    tasks = variants.parse(config, ["loss.age_weight=1,0", "loss.gender_weight=1,0"])
    assert [task.heads for task in tasks] == [("age", "gender"), ("gender",), ("age",)]
    rng = np.random.default_rng(0)
    probs = types.SimpleNamespace(age=rng.random((5, 12)), gender=rng.random((5, 2)))
    dataset = types.SimpleNamespace(
        targets=lambda split: (np.full((5, 2), 3), np.ones(5, int)),
        indices=lambda split: np.arange(5),
        prepared=types.SimpleNamespace(group=np.arange(5)),
    )
    result = comparison.results(tasks, [[probs]] * 3, dataset, with_ensemble=False)
    compared = [[name for name in NAMES if each[name] is not None] for each in result["differences"]]
    assert compared == [["gender_accuracy"], ["age_accuracy", "aabd"]]
    assert result["variants"][1]["age_accuracy"] is None and result["variants"][1]["by_seed"]["aabd"] is None


def test_wording_and_signs_of_a_difference():
    result = {"difference": -0.012, "ci95": [-0.03, 0.01], "range": [-0.02, -0.0001]}
    assert comparison._cells(result, "aabd") == ("better by 0.012 [-0.010, 0.030]", "0.000 to 0.020")
    assert comparison._cells(result, "age_accuracy") == ("worse by 0.012 [-0.010, 0.030]", "0.000 to 0.020")
    result = {"difference": 0.012, "ci95": [-0.03, 0.04], "range": [-0.02, 0.03]}
    assert comparison._cells(result, "age_accuracy") == ("better by 0.012 [-0.030, 0.040]", "-0.020 to 0.030")
    assert "another seed" in comparison.caution(1) and "so few" in comparison.caution(4)
    assert "few" not in comparison.caution(5)


def test_seconds_are_those_of_the_steps_that_were_not_repeated(tmp_path):
    run, log = Workdir(tmp_path), MetricsLog(tmp_path / "metrics.jsonl")
    run.write_config({"batch_size": 16})
    for step, speed in ((5, 8.0), (10, 16.0), (12, 32.0)):
        log.append({"step": step, "split": "train", "images_per_second": speed})
        log.append({"step": step, "split": "val"})
    assert finished_runs.seconds(run) == 5 * 16 / 8 + 5 * 16 / 16 + 2 * 16 / 32


def test_damaged_predictions_name_the_run_to_train_again(out, config):
    original = (out / OTHER / "seed1" / "predictions.csv").read_text()
    last = max(i for i, character in enumerate(original) if character.isdigit())
    other = original[:last] + str(9 - int(original[last])) + original[last + 1 :]
    try:
        for damaged in (original[: len(original) // 2], other):
            (out / OTHER / "seed1" / "predictions.csv").write_text(damaged)
            with pytest.raises(DataError, match="delete .*shuffled/seed1"):
                ablate(config, out)
    finally:
        (out / OTHER / "seed1" / "predictions.csv").write_text(original)
