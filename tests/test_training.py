"""The training command in this process: collapsed heads, options, files, checks and warnings."""

import collections
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_nets
from number_sources import untraced

from agegender_jax import synthetic
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.config import default
from agegender_jax.errors import ConfigError, NotFiniteError
from agegender_jax.run import checks, dataset, evaluate, train
from agegender_jax.run.host import determinism, device_memory
from agegender_jax.run.training import initial_state


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


def test_a_collapse_is_reported_and_logged_if_the_heads_cannot_learn(faces, tmp_path, capsys):
    config = small_config(faces, 1)
    config.optimizer.update(name="sgd", lr=1.0, schedule="constant", weight_decay=1.0)  # every kernel becomes 0
    config.loss.update(age_weight=1e-30, gender_weight=1e-30)
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert lines(tmp_path / "run")[-1]["collapsed"] == ["age", "gender"]
    assert "WARNING: the age head has collapsed" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["collapsed"] == ["age", "gender"]
    assert "collapsed (age, gender)" in (tmp_path / "run" / "report.html").read_text()


SMALL_STEM = {"stem": "small", "gender_to_age": "none", "age_hidden": 8, "dtype": "bfloat16"}
PLAIN_SGD = {"name": "sgd", "schedule": "constant", "warmup": 0.0, "clip_norm": 0.0, "weight_decay": 1e-4}


@pytest.mark.parametrize(
    "net, model, optimizer",
    [
        ("resnet18", SMALL_STEM, PLAIN_SGD),
        ("ran56", {"learning": "naive", "attention": "channel", "gender_to_age": "shuffled"}, {"ema": 0.9}),
        ("levi_hassner", {"gender_to_age": "true"}, {"freeze": 1, "layer_decay": 0.5}),
    ],
)
def test_options_compose_and_the_state_stays_float32(monkeypatch, net, model, optimizer):
    small_nets.patch(monkeypatch, net)
    config = small_nets.config(net, model=model, optimizer=optimizer, augment={"flip": False, "shift": 0.0})
    state, after, probs = small_nets.trace(config)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert {x.dtype for x in jax.tree.leaves((state.params, state.batch_stats, probs))} == {np.dtype("float32")}


def test_frozen_layers_have_no_backward_pass():
    def convolutions(freeze):
        config = small_nets.config("levi_hassner", optimizer={"freeze": freeze})
        step, state, batch = small_nets.traced_step(config)
        return str(jax.make_jaxpr(step)(state, batch)).count("conv_general_dilated[")

    forward = convolutions(5)  # of all three layers
    assert convolutions(2) == forward + 1  # the gradient of the kernel of conv3
    assert convolutions(0) > 2 * forward


def test_a_control_is_trained_but_evaluated_only_where_that_is_allowed(faces, tmp_path):
    config = small_config(faces, 2)
    config.model.gender_to_age = "true"
    train.fit(config, str(tmp_path / "run"), ["test"])
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"][0]["gender_to_age"] == "true"
    options = {"source": None, "split": "test", "checkpoint": "best", "out": str(tmp_path / "out")}
    options |= {"allow_leak": False, "draw": False}
    with pytest.raises(ConfigError, match="fed the true gender: a control"):
        evaluate.evaluate([str(tmp_path / "run")], **options)
    results = evaluate.evaluate([str(tmp_path / "run")], **options, allow_control=True)
    assert results["models"][0]["gender_to_age"] == "true"


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
    notices = json.loads((one_step / "run.json").read_text())
    assert notices["command"] == ["python", "-m", "launch.train"] and notices["devices"]["count"] == jax.device_count()
    assert len(notices["source"]["fingerprint"]) == 64 and notices["versions"]["jax"] == jax.__version__
    read = {name: json.loads((one_step / f"{name}.json").read_text()) for name in ("config", "run", "results")}
    splits = collections.Counter(row.split(",")[1] for row in (one_step / "splits.csv").read_text().splitlines()[1:])
    card = (one_step / "MODEL_CARD.md").read_text()
    assert untraced(card, read, dict(splits), lines(one_step), default().to_dict()) == set()
    assert [path.name for path in (one_step / "checkpoints").iterdir()] == ["1"]
    manifest = json.loads((one_step / "checkpoints" / "1" / "manifest.json").read_text())
    assert manifest["metrics"]["val_loss"] == pytest.approx(lines(one_step)[1]["loss"])
    assert [(row["step"], row["split"]) for row in lines(one_step)] == [(1, "train"), (1, "val")]
    assert json.loads((one_step / "results.json").read_text())["models"][0]["step"] == 1


@pytest.mark.parametrize("age_weight", [1.0, 1e9])  # finite weights without a finite loss; an update that overflows
def test_weights_that_cannot_be_used_do_not_stay(faces, tmp_path, age_weight):
    config = small_config(faces, 1)
    config.optimizer.update(name="sgd", lr=1e38, schedule="constant", clip_norm=0.0)
    config.loss.age_weight = age_weight
    with pytest.raises(NotFiniteError, match="before step 1"):
        train.fit(config, str(tmp_path / "run"), ["test"])
    assert not (tmp_path / "run" / "checkpoints" / "1").exists() and not (tmp_path / "run" / "results.json").exists()
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


def test_the_record_of_a_finished_run_does_not_change(faces, one_step, tmp_path, capsys):
    run = shutil.copytree(one_step, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    config = small_config(faces, 1)
    config.num_epochs, config.log.every_steps = 7, 3
    train.fit(config, str(run), ["another", "command"])
    assert "already finished at step 1" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_shuffled_feed_needs_two_images_per_device(faces, tmp_path):
    config = small_config(faces, 1)
    config.model.gender_to_age = "shuffled"
    config.batch_size = jax.device_count()
    with pytest.raises(ConfigError, match="at least two images"):
        train.fit(config, str(tmp_path / "run"), ["test"])


def test_batchnorm_needs_two_images_in_each_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one_image = small_nets.config("resnet18", batch_size=1)
    for config in (one_image, small_nets.config("resnet18", batch_size=4, accumulate=4)):
        with pytest.raises(ConfigError, match="one image at a time"):
            checks.before_data(config)
    checks.before_data(small_nets.config("resnet18", batch_size=4, accumulate=2))
    checks.before_data(small_nets.config("levi_hassner", batch_size=1))


def rate_warnings(tmp_path, schedule, trained_steps, num_steps, start=40):
    """Return the warnings of a run of `trained_steps` steps that is resumed at step `start` with `num_steps`."""
    config = small_nets.config("resnet18", num_steps=num_steps)
    config.optimizer.update(schedule=schedule, warmup=0.1, lr=0.005, final=0.01)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    (checkpoints.folder / str(start)).mkdir()
    length = {"num_steps": trained_steps} if trained_steps % 10 else {"num_steps": 0, "num_epochs": trained_steps // 10}
    (checkpoints.folder / str(start) / "config.json").write_text(json.dumps(length))
    warnings = []
    progress = types.SimpleNamespace(warn=warnings.append)
    initial_state.warn_of_new_rate(config, checkpoints, start, 10, num_steps, progress)
    checkpoints.close()
    return warnings


def test_a_longer_run_warns_of_the_jump_of_its_rate(tmp_path):
    (warning,) = rate_warnings(tmp_path, "cosine", trained_steps=40, num_steps=60)  # of 4 epochs
    assert "60 steps instead of 40" in warning
    assert "step 41 is trained at 0.00154 instead of 5e-05" in warning


@pytest.mark.parametrize("schedule, trained_steps", [("cosine", 60), ("constant", 45)])
def test_a_run_whose_rate_does_not_jump_warns_of_nothing(tmp_path, schedule, trained_steps):
    assert rate_warnings(tmp_path, schedule, trained_steps, num_steps=60) == []


def too_large(*_):
    return iter([jax.block_until_ready(jax.jit(lambda: jnp.ones((1 << 24, 1 << 24)))())])


def test_too_little_device_memory_is_explained(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset.Dataset, "train_batches", too_large)
    with pytest.raises(ConfigError, match="out of memory on cpu") as caught:
        train.fit(small_config(faces, 1), str(tmp_path / "run"), ["test"])
    assert "--config.batch_size=16" in caught.value.where and "bfloat16" in caught.value.fix


def test_other_device_errors_are_not_reported_as_out_of_memory():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), device_memory.explained_memory(default()):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


def test_empty_splits_are_warned_of():
    splits = np.array(["train"] * 4)
    val, test = checks.empty_splits(dataset.Dataset(None, splits))
    assert val.startswith("the val split is empty") and test.startswith("the test split is empty")
    assert checks.empty_splits(dataset.Dataset(None, np.array(["train", "val", "test"]))) == []


def test_deterministic_needs_its_flag_before_a_gpu_starts(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv(determinism.CACHES, "all")
    monkeypatch.delenv(determinism.CACHES)  # restored after the test, as it was
    config = small_nets.config("resnet18", deterministic=True)
    with pytest.raises(ConfigError, match="deterministic=True must be set before jax starts"):
        checks.deterministic(config)
    determinism.request()
    determinism.request()
    assert determinism.os.environ["XLA_FLAGS"] == "--xla_dump_to=x --xla_gpu_deterministic_ops=true"
    assert determinism.os.environ[determinism.CACHES] == "none"  # no kernels that were chosen by timing
    assert hasattr(jax.config, determinism.CACHES.lower())
    checks.deterministic(config)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    with pytest.raises(ConfigError):
        checks.deterministic(config)
