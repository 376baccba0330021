"""Training learns: small nets on drawn faces, from the command's own function to its logged rows."""

import json
import math

import numpy as np
import pytest
import small_nets

from agegender_jax import report, synthetic
from agegender_jax.run import dataset, train

STEPS, LOG_EVERY = 40, 10
CHANCE = math.log(12) + math.log(2)  # the loss of uniform predictions, where training starts


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_faces(folder / "faces", 300, seed=0, size=32)
    return folder


@pytest.mark.parametrize("net, ema", [("ran56", 0.0), ("resnet18", 0.999)])
def test_both_heads_learn_drawn_faces(faces, tmp_path, monkeypatch, net, ema):
    small_nets.patch(monkeypatch, net)
    monkeypatch.setattr(report, "draw", lambda *args: {})  # the figures but that of attention, which others test
    config = small_nets.config(net, num_steps=STEPS, batch_size=32)
    config.optimizer.update(lr=0.02, ema=ema)
    config.data.update(source=str(faces / "faces"), cache_dir=str(faces / "cache"))
    config.augment.update(shift=0.0, colour=0.0)  # the generator varies place and colour already
    config.log.update(every_steps=LOG_EVERY, figures=net == "ran56")
    config.eval.every_epochs = STEPS
    train.fit(config, str(tmp_path / "run"), ["test"])

    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, *_, before_last, last = [row for row in rows if row["split"] == "train"]
    age, gender = dataset.load_dataset(config).targets("train")
    majority = {"age": np.bincount(age[:, 0]).max() / len(age), "gender": np.bincount(gender).max() / len(gender)}
    assert first["loss"] < CHANCE
    assert last["loss"] < first["loss"] - 0.3
    for head, share in majority.items():
        accuracy = (before_last[f"{head}_accuracy"] + last[f"{head}_accuracy"]) / 2  # of 640 images
        assert accuracy > share + 0.04, head
    (val,) = [row for row in rows if row["split"] == "val"]
    assert val["loss"] < CHANCE - 0.3  # with `ema`, of the average, which must have left the initial weights
    assert (tmp_path / "run" / "figures" / "attention_run.png").exists() == (net == "ran56")
