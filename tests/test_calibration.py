"""Calibration measures against scikit-learn and loops; temperatures on logits, in a training, and in evaluations."""

import json
import shutil

import jax
import numpy as np
import pytest
import scipy.stats
import tiny_runs
from sklearn import metrics as sklearn_metrics

from agegender_jax import ensemble, files, metrics
from agegender_jax.errors import CheckpointError
from agegender_jax.metrics import calibration
from agegender_jax.run import evaluate as evaluate_command
from agegender_jax.run import train
from agegender_jax.structs import Probs


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def draw_labels(count, temperature, num=12, seed=0):
    """Return logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(count, num))
    label = (softmax(logits / temperature).cumsum(1) > rng.random((count, 1))).argmax(1)
    return logits, label


def ages(first, last=None):
    return metrics.right_ages(np.stack([first, first if last is None else last], 1))


def ece_by_loop(probs, right):
    total = 0
    confidence, hits = probs.max(1), right[np.arange(len(probs)), probs.argmax(1)]
    for low in np.arange(15) / 15:
        inside = (low < confidence) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.sum() * abs(hits[inside].mean() - confidence[inside].mean())
    return total / len(probs)


def scored(probs, right):
    return calibration.scored({"before": probs, "after": None}, right)["before"]


def test_measures_agree_with_scikit_learn_and_a_loop():
    logits, label = draw_labels(400, 2.0)
    probs = softmax(logits)
    result = scored(probs, ages(label))
    assert result["nll"] == pytest.approx(sklearn_metrics.log_loss(label, probs, labels=range(12)))
    assert result["brier"] == pytest.approx(((probs - np.eye(12)[label]) ** 2).sum(1).mean())
    assert result["ece"] == pytest.approx(ece_by_loop(probs, ages(label)))
    logits, label = draw_labels(400, 2.0, num=2)
    probs = softmax(logits)
    result = scored(probs, metrics.right_genders(label))
    assert result["brier"] == pytest.approx(2 * sklearn_metrics.brier_score_loss(label, probs[:, 1]))
    assert result["ece"] == pytest.approx(ece_by_loop(probs, metrics.right_genders(label)))


def test_a_range_is_one_class():
    probs = np.array([[0.1, 0.2, 0.3, 0.4]])
    right = np.array([[False, False, True, True]])
    assert calibration.nll(probs, right) == pytest.approx(-np.log(0.7))
    assert scored(probs, right)["brier"] == pytest.approx(0.1**2 + 0.2**2 + 0.3**2)
    (full,) = (b for b in calibration.reliability(probs, right) if b["n"])
    assert full == {"n": 1, "confidence": pytest.approx(0.4), "accuracy": 1.0, "ci95": metrics.wilson(np.array([1]))}


def test_bins_include_their_upper_edge_and_all_examples():
    top = np.array([1 / 15, 1 / 3, 0.5, 2 / 3, 1.0, 1.0])
    probs = np.stack([top, np.zeros(6)], 1)
    bins = calibration.reliability(probs, np.tile([True, False], (6, 1)))
    assert [i for i, b in enumerate(bins) if b["n"]] == [0, 4, 7, 9, 14] and bins[14]["n"] == 2
    assert bins[1] == {"n": 0, "confidence": None, "accuracy": None, "ci95": None}
    nothing = scored(np.zeros((0, 2)), np.zeros((0, 2), bool))
    assert nothing == {"nll": None, "brier": None, "ece": None, "ci95": {"nll": None, "brier": None}}


def test_the_intervals_of_bins_treat_near_duplicates_as_one_unit():
    probs, hit = np.tile([0.7, 0.3], (40, 1)), np.arange(40) % 20 < 14
    right, group = np.stack([hit, ~hit], 1), np.arange(40) % 20
    alone, pairs = (next(b for b in calibration.reliability(probs, right, g) if b["n"]) for g in (None, group))
    assert alone["ci95"] == metrics.wilson(hit) and alone["accuracy"] == pairs["accuracy"] == 0.7
    assert pairs["ci95"] == pytest.approx(metrics.wilson(hit[:20]))


def test_the_change_by_a_temperature_has_an_interval_from_the_same_resamples():
    logits, label = draw_labels(300, 2.0)
    stages, right = {"before": softmax(logits), "after": softmax(logits / 2)}, ages(label)
    result = calibration.scored(stages, right)
    losses = {stage: -np.log(probs[np.arange(300), label]) for stage, probs in stages.items()}
    for stage_result, values in ((result["before"], losses["before"]), (result["after"], losses["after"])):
        by_scipy = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=1)
        assert stage_result["ci95"]["nll"] == pytest.approx(
            [*by_scipy.confidence_interval], abs=0.25 * values.std() / 300**0.5
        )
    rng = np.random.default_rng(5)
    redrawn = [(losses["after"] - losses["before"])[rng.integers(0, 300, 300)].mean() for _ in range(400)]
    for measure, change in result["change"].items():
        assert change["difference"] == pytest.approx(result["after"][measure] - result["before"][measure])
        assert change["difference"] < 0  # the labels were drawn at that temperature
    change = result["change"]["nll"]
    assert change["ci95"] == pytest.approx(np.quantile(redrawn, [0.025, 0.975]), abs=0.35 * np.std(redrawn))
    assert change["ci95"][1] < 0 and result["change"]["ece"]["ci95"] is None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_fitted(temperature):
    logits, label = draw_labels(20_000, temperature)
    assert calibration.fit_temperature(softmax(logits), ages(label)) == pytest.approx(temperature, rel=0.03)
    first = label - label % 3
    result = calibration.fit_temperature(softmax(logits), ages(first, first + 2))  # says less, but of the same
    assert result == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_temperature_never_worsens_nll_and_is_a_minimum(seed):
    logits, label = draw_labels(50, 1.0, num=2, seed=seed)
    probs, right = softmax(logits), metrics.right_genders(label)
    result = calibration.fit_temperature(probs, right)

    def loss(t):
        """With one further example, for which both classes are equally likely."""
        scaled = softmax(np.log(probs) / t)
        return calibration.nll(scaled, right) - np.log(scaled).mean() / len(probs)

    assert loss(result) <= min(loss(t) for t in (1, 0.98 * result, 1.02 * result)) + 1e-12
    assert calibration.fit_temperature(np.full((50, 2), 0.5), right) == 1.0


def test_certain_predictions_stay_inside_the_bounds():
    right = metrics.right_genders(np.array([0, 1] * 20))
    wrong = calibration.fit_temperature(np.where(right, 0.0, 1.0), right)
    assert wrong == pytest.approx(calibration.HOTTEST, rel=1e-3)


def test_a_few_right_predictions_do_not_become_certain():
    """Without regularisation the temperature is the lowest possible, and one error costs as much as a hundred."""
    for count, least in ((30, 0.4), (100, 0.3)):
        right = metrics.right_genders(np.arange(count) % 2)
        assert least < calibration.fit_temperature(np.where(right, 0.9, 0.1), right) < 1


def test_what_was_fitted_is_applied_to_probabilities_of_zero():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    shown = np.where(rng.uniform(size=400) < 0.1, 1 - label, label)  # a tenth are wrong, and certain
    probs, right = np.eye(2, dtype=np.float32)[shown], metrics.right_genders(label)
    nll, temperature = calibration.calibrated_nll(probs, right)
    applied = ensemble.calibrate(Probs(np.full((400, 12), 1 / 12, np.float32), probs), 1.0, temperature).gender
    assert calibration.nll(np.asarray(applied), right) == pytest.approx(nll, rel=1e-3)


def test_calibrate_is_the_softmax_of_cooler_logits():
    (age, _), (gender, _) = draw_labels(50, 1.0), draw_labels(50, 1.0, num=2)
    probs = Probs(*(softmax(x).astype(np.float32) for x in (age, gender)))
    for calibrate in (ensemble.calibrate, jax.jit(ensemble.calibrate)):
        result = calibrate(probs, 2.0, 0.7)
        np.testing.assert_allclose(result.age, softmax(age / 2.0), rtol=2e-5)
        np.testing.assert_allclose(result.gender, softmax(gender / 0.7), rtol=2e-5, atol=1e-7)
    certain = ensemble.calibrate(Probs(np.eye(12, dtype=np.float32), np.eye(2, dtype=np.float32)[[0] * 12]), 3.0, 0.1)
    np.testing.assert_allclose(certain.age, np.eye(12), atol=1e-9)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny_runs.make_config(tmp_path_factory.mktemp("data"), 360)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return tiny_runs.make_run(tmp_path_factory.mktemp("runs") / "run", config)


def load(path):
    return json.loads(path.read_text())


def evaluate(run, out, **arguments):
    options = {"source": None, "split": "test", "checkpoint": "best", "allow_leak": False, "draw": False}
    return evaluate_command.evaluate([str(run)], out=str(out), **options | arguments)


def probabilities(folder):
    rows = np.loadtxt(folder / "predictions.csv", delimiter=",", skiprows=1, usecols=range(5, 18))
    return rows[:, 0], rows[:, 1:]


def test_training_leaves_the_temperatures_and_applies_them(run, config, tmp_path):
    fitted = load(run / "calibration.json")
    assert set(fitted) == {
        "val_trained_on",
        "age_temperature",
        "gender_temperature",
        "n",
        "step",
        "bucket_years",
        "open_from",
        "views",
        "digest",
    }
    assert fitted["open_from"] is None and fitted["views"] == "none"
    splits = [line.split(",")[:2] for line in (run / "splits.csv").read_text().splitlines()[1:]]
    assert fitted["n"] == sum(split == "val" for _, split in splits) >= 30 and fitted["step"] == 2
    years = [int(file.split("_")[0]) for file, split in splits if split == "train"]
    assert fitted["bucket_years"][2] == pytest.approx(np.mean([y for y in years if y // 10 == 2]))
    (row,) = [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["split"] == "val"]
    assert {name: row[name] for name in ("age_temperature", "gender_temperature")} == {
        name: pytest.approx(fitted[name]) for name in ("age_temperature", "gender_temperature")
    }
    saved = load(run / "checkpoints" / "2" / "manifest.json")["metrics"]
    assert saved["calibrated_loss"] == row["calibrated_loss"] < saved["val_loss"] == row["loss"]
    (model,) = load(run / "results.json")["models"]
    assert model["calibration"]["age"]["temperature"] == fitted["age_temperature"] != 1.0
    raw = evaluate(run, tmp_path / "raw", calibrate=False)
    assert raw["calibrated"] is False and raw["models"][0]["calibration"]["age"]["after"] is None
    assert raw["models"][0]["calibration"]["age"]["temperature"] is None and raw["models"][0]["age_mae"] is not None
    for head in ("age", "gender"):
        assert raw["models"][0]["calibration"][head]["before"] == model["calibration"][head]["before"]
    for column, name in enumerate(("gender", "age")):
        warm, plain = probabilities(run)[column], probabilities(tmp_path / "raw")[column]
        both = [np.stack([1 - p, p], 1) if name == "gender" else p for p in (warm, plain)]
        np.testing.assert_allclose(both[0], softmax(np.log(both[1]) / fitted[f"{name}_temperature"]), atol=2e-5)
    on_val = evaluate(run, tmp_path / "val", split="val", allow_leak=True)["models"][0]["calibration"]
    for head in ("age", "gender"):
        assert on_val[head]["after"]["nll"] <= on_val[head]["before"]["nll"] + 1e-6


def test_an_older_run_is_scored_uncalibrated_and_its_command_calibrates_it(run, config, tmp_path, capsys):
    older = shutil.copytree(run, tmp_path / "run")
    (older / "calibration.json").unlink()
    result = evaluate(older, tmp_path / "out")
    assert (
        "run has no calibration.json, so it is not calibrated; repeating the training command"
        in capsys.readouterr().out
    )
    assert result["calibrated"] is False and result["models"][0]["age_mae"] is None
    train.fit(config, str(older), ["test"])
    assert "trained to step 2 already" in capsys.readouterr().out
    for name in ("calibration.json", "predictions.csv"):
        assert (older / name).read_bytes() == (run / name).read_bytes()
    train.fit(config, str(older), ["test"])
    assert "already finished at step 2" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"age_temperature": 1}', None])
def test_damaged_calibration_is_refused(run, tmp_path, text):
    broken = shutil.copytree(run, tmp_path / "run")
    fitted = load(run / "calibration.json")
    (broken / "calibration.json").write_text(text or json.dumps(files.seal(fitted | {"bucket_years": [1, None]})))
    with pytest.raises(CheckpointError, match="calibration.json of the workdir is damaged"):
        evaluate(broken, tmp_path / "out")


def test_temperatures_of_another_step_are_reported(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "run")
    (other / "calibration.json").write_text(json.dumps(files.seal(load(run / "calibration.json") | {"step": 1})))
    assert evaluate(other, tmp_path / "out")["calibrated"] is True
    assert "were fitted at step 1, its predictions are of step 2" in capsys.readouterr().out


def test_temperatures_of_other_views_are_reported(run, tmp_path, capsys):
    evaluate(run, tmp_path / "out", views="flip")
    assert "were fitted with views=none, its predictions have views=flip" in capsys.readouterr().out
    evaluate(run, tmp_path / "out")
    assert "views=" not in capsys.readouterr().out


def test_too_few_faces_in_val_leave_the_temperature_at_one(run, config, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "ENOUGH", 1000)
    again = shutil.copytree(run, tmp_path / "run")
    (again / "calibration.json").unlink()
    train.fit(config, str(again), ["test"])
    fitted = load(again / "calibration.json")
    assert (fitted["age_temperature"], fitted["gender_temperature"], fitted["n"]) == (1.0, 1.0, 0)
    assert fitted["bucket_years"] == load(run / "calibration.json")["bucket_years"]
