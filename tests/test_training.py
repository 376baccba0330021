"""The step and the job in this process: moving average, alarm, variants, saved sums."""

import functools
import json

import jax
import numpy as np
import optax
import pytest
import tiny_training

from agegender_jax import parallel, training
from agegender_jax.config import default, paper
from agegender_jax.data import synthetic
from agegender_jax.run import trainer


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_faces(folder / "faces", 120, seed=0, size=32)
    return folder


def small_config(faces, steps):
    config = default()
    config.model.update(name="resnet18", width=0.125)
    config.data.update(source=str(faces / "faces"), cache_dir=str(faces / "cache"), image_size=32)
    config.num_steps = steps
    return config


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_moving_average_follows_its_formula():
    model, decay = tiny_training.build_model(), 0.75
    tx = optax.sgd(0.1)
    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.key(7),
        prepare_images=tiny_training.prepare_images,
        ema_decay=decay,
    )
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), tiny_training.SIZE, ema=True))
    expected = jax.tree.map(np.array, state.params)
    for _, batch in zip(range(3), tiny_training.batches(), strict=False):
        state = driver.step(state, driver.split(batch))
        expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * np.array(new), expected, state.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.ema, expected)


def test_alarm_rings_and_is_written_when_the_heads_cannot_learn(faces, tmp_path, capsys):
    config = small_config(faces, 1)
    config.optimizer.update(name="sgd", lr=1.0, schedule="constant", weight_decay=1.0)  # every kernel becomes 0
    config.loss.update(age_weight=0.0, gender_weight=0.0)
    trainer.fit(config, str(tmp_path / "run"), ["test"])
    assert lines(tmp_path / "run")[-1]["collapsed"] == ["age", "gender"]
    assert "WARNING: the age head has collapsed" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["collapsed"] == ["age", "gender"]
    assert "collapsed (age, gender)" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("change", ["small stem, none, hidden, paper", "bfloat16, smoothing, decay, sgd"])
def test_options_train(faces, tmp_path, change):
    config = small_config(faces, 2)
    if "paper" in change:
        config.model.update(stem="small", gender_to_age="none", age_hidden=8)
        paper(config)
    else:
        config.model.update(dtype="bfloat16")
        config.loss.label_smoothing = 0.1
        config.optimizer.update(name="sgd", weight_decay=1e-4)
        config.augment.update(flip=False, shift=0.0, colour=0.0)
    trainer.fit(config, str(tmp_path / "run"), ["test"])
    assert np.isfinite(lines(tmp_path / "run")[-1]["loss"])


def test_a_run_of_one_step_evaluates_saves_tests_and_writes_all_files(faces, tmp_path):
    trainer.fit(small_config(faces, 1), str(tmp_path / "run"), ["python", "-m", "launch.train"])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.json",
        "run.json",
        "splits.csv",
        "bad_images.csv",
        "metrics.jsonl",
        "checkpoints",
        "results.json",
        "predictions.csv",
        "report.html",
    }
    assert any(name.startswith("events.out.tfevents") for name in names)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["command"] == ["python", "-m", "launch.train"] and told["devices"]["count"] == jax.device_count()
    assert len(told["source"]["fingerprint"]) == 64 and told["versions"]["jax"] == jax.__version__
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["1"]
    assert [(row["step"], row["split"]) for row in lines(tmp_path / "run")] == [(1, "train"), (1, "val")]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["step"] == 1
