"""The step and the job in this process: moving average, alarm, variants, saved sums."""

import collections
import json
import shutil

import jax
import numpy as np
import pytest
from tracing import untraced

from agegender_jax import models, synthetic
from agegender_jax.checkpoint import load_variables
from agegender_jax.config import default
from agegender_jax.errors import ConfigError, NotFiniteError
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.run import dataset, evaluate, train


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_faces(folder / "faces", 120, seed=0, size=32)
    return folder


def small_config(faces, steps, net="levi_hassner"):
    """Of a net that compiles quickly, if no other is asked for."""
    config = default()
    config.model.update(name=net, width=0.125)
    config.data.update(source=str(faces / "faces"), cache_dir=str(faces / "cache"), image_size=32)
    config.num_steps, config.log.figures = steps, False
    return config


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_alarm_rings_and_is_written_when_the_heads_cannot_learn(faces, tmp_path, capsys):
    config = small_config(faces, 1)
    config.optimizer.update(name="sgd", lr=1.0, schedule="constant", weight_decay=1.0)  # every kernel becomes 0
    config.loss.update(age_weight=0.0, gender_weight=0.0)
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert lines(tmp_path / "run")[-1]["collapsed"] == ["age", "gender"]
    assert "WARNING: the age head has collapsed" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["collapsed"] == ["age", "gender"]
    assert "collapsed (age, gender)" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "change",
    [
        "small stem, none, hidden, bfloat16, smoothing, constant rate, sgd, decay",
        "ran, naive, channel, shuffled",
        "levi_hassner, true",
    ],
)
def test_options_train(faces, tmp_path, change, monkeypatch):
    config = small_config(faces, 2, "levi_hassner" if "levi" in change else "resnet18")
    if change.startswith("ran"):
        one_module = {"modules": (1,), "channels": (64,), "depths": (1,), "final_units": 0}
        monkeypatch.setitem(models.BACKBONES, "ran56", (ResidualAttentionNet, one_module))
        config.model.update(name="ran56", learning="naive", attention="channel", gender_to_age="shuffled")
        config.optimizer.ema, config.log.figures = 0.9, True
    elif "levi" in change:  # without BatchNorm, with dropout
        config.model.update(gender_to_age="true")
    else:
        config.model.update(stem="small", gender_to_age="none", age_hidden=8, dtype="bfloat16")
        config.loss.label_smoothing = 0.1
        config.optimizer.update(name="sgd", schedule="constant", warmup=0.0, clip_norm=0.0, weight_decay=1e-4)
        config.augment.update(flip=False, shift=0.0, colour=0.0)
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert np.isfinite(lines(tmp_path / "run")[-1]["loss"])
    variables, _, _ = load_variables(tmp_path / "run" / "checkpoints")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}  # with bfloat16 too
    assert (tmp_path / "run" / "figures" / "attention_run.png").exists() == change.startswith("ran")
    feed = config.model.gender_to_age
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["gender_to_age"] == feed
    told = {"source": None, "split": "test", "checkpoint": "best", "out": str(tmp_path / "out"), "allow_leak": False}
    told["draw"] = False
    if feed == "true":
        with pytest.raises(ConfigError, match="fed the true gender: a control"):
            evaluate.evaluate([str(tmp_path / "run")], **told)
        found = evaluate.evaluate([str(tmp_path / "run")], **told, allow_control=True)
        assert found["models"][0]["gender_to_age"] == "true"


@pytest.fixture(scope="module")
def one_step(faces):
    train.fit(small_config(faces, 1), str(faces / "one_step"), ["python", "-m", "launch.train"])
    return faces / "one_step"


def test_a_run_of_one_step_evaluates_saves_tests_and_writes_all_files(one_step):
    names = {path.name for path in one_step.iterdir()}
    assert names >= {
        "config.json",
        "run.json",
        "splits.csv",
        "bad_images.csv",
        "metrics.jsonl",
        "checkpoints",
        "calibration.json",
        "results.json",
        "predictions.csv",
        "report.html",
        "MODEL_CARD.md",
    }
    assert any(name.startswith("events.out.tfevents") for name in names)
    told = json.loads((one_step / "run.json").read_text())
    assert told["command"] == ["python", "-m", "launch.train"] and told["devices"]["count"] == jax.device_count()
    assert len(told["source"]["fingerprint"]) == 64 and told["versions"]["jax"] == jax.__version__
    read = {name: json.loads((one_step / f"{name}.json").read_text()) for name in ("config", "run", "results")}
    splits = collections.Counter(row.split(",")[1] for row in (one_step / "splits.csv").read_text().splitlines()[1:])
    card = (one_step / "MODEL_CARD.md").read_text()
    assert untraced(card, read, dict(splits), lines(one_step), default().to_dict()) == set()
    assert [path.name for path in (one_step / "checkpoints").iterdir()] == ["1"]
    assert [(row["step"], row["split"]) for row in lines(one_step)] == [(1, "train"), (1, "val")]
    assert json.loads((one_step / "results.json").read_text())["models"][0]["step"] == 1


def test_weights_that_are_not_finite_are_not_saved(faces, tmp_path):
    config = small_config(faces, 1)
    config.optimizer.update(name="sgd", lr=1e38, schedule="constant", clip_norm=0.0)
    config.loss.age_weight = 1e9  # so that the update overflows
    with pytest.raises(NotFiniteError, match="before step 1"):
        train.fit(config, str(tmp_path / "run"), ["test"])
    assert not list((tmp_path / "run" / "checkpoints").iterdir()) and not (tmp_path / "run" / "results.json").exists()
    assert [row["split"] for row in lines(tmp_path / "run")] == ["train"]


def test_results_of_a_shorter_run_do_not_stay(faces, one_step, tmp_path, monkeypatch):
    run = shutil.copytree(one_step, tmp_path / "run")
    monkeypatch.setattr(dataset.Dataset, "train_batches", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train.fit(small_config(faces, 2), str(run), ["test"])
    assert not (run / "results.json").exists()
    (run / "config.json").unlink()
    with pytest.raises(ConfigError, match="whose config is gone"):
        train.fit(small_config(faces, 2), str(run), ["test"])


def test_a_shuffled_feed_needs_two_images_a_device(faces, tmp_path):
    config = small_config(faces, 1)
    config.model.gender_to_age = "shuffled"
    config.batch_size = jax.device_count()
    with pytest.raises(ConfigError, match="at least two images a device"):
        train.fit(config, str(tmp_path / "run"), ["test"])
