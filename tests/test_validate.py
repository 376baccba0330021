"""The best step has the lowest cross-entropy on val after each head's temperature has been fitted there."""

import types

import numpy as np
import pytest
from test_calibration import draw_labels, softmax

from agegender_jax import ensemble, metrics, models, training
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.config import default
from agegender_jax.metrics import calibration
from agegender_jax.run.host import processes
from agegender_jax.run.training.validate import Validator, calibrated_scores, selection_loss
from agegender_jax.structs import Probs

COUNT = 400


def predictions(age_logits, gender_logits):
    return Probs(softmax(age_logits), softmax(gender_logits))


@pytest.fixture(scope="module")
def val():
    """Labels, an accurate net that is four times too confident, and a vaguer one that is calibrated."""
    (age_logits, age), (gender_logits, gender) = draw_labels(COUNT, 1.0), draw_labels(COUNT, 1.0, num=2)
    rng = np.random.default_rng(1)
    vague = [
        softmax(logits + 2 * rng.normal(size=logits.shape)).clip(1e-3) ** 0.5 for logits in (age_logits, gender_logits)
    ]
    return (
        (np.stack([age, age], 1), gender),
        predictions(4 * age_logits, 4 * gender_logits),
        Probs(*(p / p.sum(1, keepdims=True) for p in vague)),
    )


def test_an_accurate_step_is_not_passed_over_because_it_is_confident(val):
    labels, confident, vague = val
    config = default().loss
    raw = [selection_loss(metrics.losses(p.age, p.gender, *labels), config) for p in (confident, vague)]
    assert raw[0] > raw[1]
    scores = [calibrated_scores(p, *labels, config) for p in (confident, vague)]
    assert scores[0]["calibrated_loss"] < scores[1]["calibrated_loss"]
    assert scores[0]["age_temperature"] == pytest.approx(4, rel=0.1)
    assert scores[0]["gender_temperature"] == pytest.approx(4, rel=0.15)
    at_temperature = predictions(*(np.log(p) / 4 for p in (confident.age, confident.gender)))
    known = selection_loss(metrics.losses(at_temperature.age, at_temperature.gender, *labels), config)
    assert scores[0]["calibrated_loss"] == pytest.approx(known, rel=0.01)


@pytest.mark.parametrize("weights, heads", [((1, 0.1), "ag"), ((1, 0), "a"), ((0, 0.1), "g")])
def test_heads_that_are_not_trained_do_not_count(val, weights, heads):
    labels, confident, _ = val
    config = default().loss
    config.update(age_weight=float(weights[0]), gender_weight=float(weights[1]))
    fitted = metrics.calibrated_losses(confident.age, confident.gender, *labels)
    expected = sum(fitted[name] for name in ("loss_age", "loss_gender") if name[5] in heads)
    assert calibrated_scores(confident, *labels, config)["calibrated_loss"] == expected
    assert selection_loss({"loss_age": 2.0, "loss_gender": 0.5}, config) == 2.0 * ("a" in heads) + 0.5 * ("g" in heads)


def test_a_tiny_val_is_scored_uncalibrated(val):
    labels, confident, _ = val
    few = calibration.ENOUGH - 1
    part = Probs(confident.age[:few], confident.gender[:few])
    scores = calibrated_scores(part, labels[0][:few], labels[1][:few], default().loss)
    raw = metrics.losses(part.age, part.gender, labels[0][:few], labels[1][:few])
    assert scores == {
        "calibrated_loss": pytest.approx(raw["loss"]),
        "age_temperature": 1.0,
        "gender_temperature": 1.0,
    }


def save(checkpoints, step, **metrics):
    checkpoints.save(step, {"x": np.full(2, step, np.float32)}, {}, metrics or None)
    checkpoints.finish()


def test_the_best_step_has_the_lowest_calibrated_loss(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, val_loss=1.0, calibrated_loss=0.9)
    save(checkpoints, 2, val_loss=2.0, calibrated_loss=0.8)
    save(checkpoints, 3)  # stopped here, and not evaluated
    save(checkpoints, 4, val_loss=1.5, calibrated_loss=0.85)
    assert checkpoints.best_step() == 2 and checkpoints.steps() == [2, 3, 4]
    assert checkpoints.restore("best", {"x": np.zeros(2, np.float32)})[1] == 2
    checkpoints.close()


def test_steps_of_an_older_version_are_compared_by_what_all_have(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, val_loss=1.5)  # as version 0.1.0 wrote it
    save(checkpoints, 2, val_loss=2.0, calibrated_loss=0.1)
    assert checkpoints.best_step() == 1
    assert checkpoints.restore("best", {"x": np.zeros(2, np.float32)})[1] == 1
    save(checkpoints, 3, val_loss=1.4, calibrated_loss=0.3)  # better than the older step, which is removed
    assert checkpoints.steps() == [2, 3] and checkpoints.best_step() == 2
    checkpoints.close()


@pytest.mark.parametrize("step, heads", [(4, []), (5, ["gender"])])
def test_the_gender_head_may_have_the_majority_rate_in_the_first_half_of_a_run(val, monkeypatch, step, heads):
    """Of 10 steps: a net that starts to learn gender late is not reported as collapsed."""
    labels, confident, _ = val
    right = np.arange(COUNT) < np.bincount(labels[1]).max()
    majority = Probs(confident.age, np.eye(2)[np.where(right, labels[1], 1 - labels[1])] * 0.8 + 0.1)
    monkeypatch.setattr(models, "from_config", lambda config: None)
    monkeypatch.setattr(training, "eval_variables", lambda state: {})
    monkeypatch.setattr(processes, "until_stopped", lambda *args: None)
    monkeypatch.setattr(ensemble, "predict_all", lambda *args, **options: majority)
    rows: list[dict] = []
    progress = types.SimpleNamespace(stop=None, warn=lambda text: None)
    recorder = types.SimpleNamespace(num_steps=10, progress=progress, position=lambda *args: {}, write=rows.append)
    dataset = types.SimpleNamespace(targets=lambda split: labels, eval_batches=lambda *args: None)
    assert Validator(default(), dataset, recorder)(step, None)["collapsed"] == heads
    assert [row["collapsed"] for row in rows] == [heads]
    untrained = default()
    untrained.loss.gender_weight = 0.0
    assert Validator(untrained, dataset, recorder)(step, None)["collapsed"] == []
