"""Initial weights: files with torchvision's names, other runs, and their errors."""

import importlib.util
import json
import types

import jax
import numpy as np
import pytest
import safetensors.numpy

from agegender_jax import models, optim, synthetic, weights
from agegender_jax.checkpoint import Checkpoints, initial_weights, tree
from agegender_jax.config import default
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.models import torchvision_names
from agegender_jax.run import dataset, evaluate, train
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.training import initial_state
from agegender_jax.run.workdir import Workdir

WIDTH = 0.125


def shapes_of(net):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)


def two_heads(name="resnet18", **options):
    return shapes_of(models.build(name, num_age_classes=12, width=WIDTH, **options))


def state_dict(name="resnet18"):
    """Return random arrays as torchvision would save them, for a thousand classes."""
    rng = np.random.default_rng(0)
    state = {}
    for path, leaf in tree.named_leaves(shapes_of(models.classifier(name, num_classes=1000, width=WIDTH))).items():
        shape = {4: [leaf.shape[i] for i in (3, 2, 0, 1)] if leaf.ndim == 4 else None, 2: leaf.shape[::-1]}
        key = torchvision_names.name_of(path)
        state[key] = rng.standard_normal(shape.get(leaf.ndim, leaf.shape)).astype(np.float32)
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = np.array(3)
    return state


def save(path, state):
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **state)
    else:
        import torch

        torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)
    return str(path)


KINDS = [
    "w.safetensors",
    "w.npz",
    pytest.param("w.pth", marks=pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="pip install torch")),
]


def test_state_dicts_have_as_many_entries_as_torchvision():
    assert {name: len(state_dict(name)) for name in ("resnet18", "resnet34", "resnet50")} == {
        "resnet18": 122,
        "resnet34": 218,
        "resnet50": 320,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_used_once_and_every_leaf_filled_once(tmp_path, kind):
    state, notices = state_dict(), []
    template = two_heads()
    leaves = initial_weights.load(save(tmp_path / kind, state), template, notices.append)
    assert set(tree.named_leaves(template)) - set(leaves) == {
        f"params/{head}/{leaf}" for head in ("gender_head", "age_head") for leaf in ("kernel", "bias")
    }
    used = {torchvision_names.name_of(name) for name in leaves}
    assert len(used) == len(leaves)
    assert set(state) - used == {k for k in state if k.startswith("fc.") or k.endswith("num_batches_tracked")}
    for name, value in leaves.items():
        np.testing.assert_array_equal(value, torchvision_names.to_ours(state[torchvision_names.name_of(name)]))
    assert (
        "100 of 104 arrays start from" in notices[0]
        and "gender_head/kernel" in notices[1]
        and "fc.weight" in notices[2]
    )


def test_a_head_of_the_same_size_is_filled_too(tmp_path):
    path, notices = save(tmp_path / "w.npz", state_dict()), []
    same = shapes_of(models.classifier("resnet18", num_classes=1000, width=WIDTH))
    assert "params/head/kernel" in initial_weights.load(path, same)
    smaller = shapes_of(models.classifier("resnet18", num_classes=7, width=WIDTH))
    assert "params/head/kernel" not in initial_weights.load(path, smaller, notices.append)
    assert "params/head/kernel [64, 1000] for [64, 7]" in notices[1]


def test_filled_variables_keep_their_structure(tmp_path):
    net = models.build("resnet18", num_age_classes=12, width=WIDTH)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes_of(net))
    leaves = initial_weights.load(save(tmp_path / "w.npz", state_dict()), zeros)
    filled = initial_weights.fill(zeros, leaves)
    assert jax.tree.structure(filled) == jax.tree.structure(zeros)
    np.testing.assert_array_equal(filled["params"]["backbone"]["bn1"]["scale"], state_dict()["bn1.weight"])
    assert not np.asarray(filled["params"]["age_head"]["kernel"]).any()


@pytest.mark.parametrize(
    "change, texts",
    [
        (lambda s: s.pop("layer1.0.bn1.running_mean"), ["missing: batch_stats/backbone/layer1_0/bn1/mean"]),
        (lambda s: s.update({"layer9.0.conv1.weight": np.zeros(1)}), ["unexpected: layer9.0.conv1.weight"]),
        (
            lambda s: s.update({"conv1.weight": np.zeros((8, 1, 7, 7))}),
            ["of another shape: params/backbone/conv1/kernel [7, 7, 1, 8] for [7, 7, 3, 8]"],
        ),
        (lambda s: [s.pop(k) for k in [*s] if "layer3" in k], ["missing: ", "and 21 more"]),
    ],
)
def test_other_weights_are_refused_with_a_list(tmp_path, change, texts):
    state = state_dict()
    change(state)
    with pytest.raises(CheckpointError) as error:
        initial_weights.load(save(tmp_path / "w.npz", state), two_heads())
    assert all(text in error.value.what for text in texts) and error.value.what.startswith("the weights belong to")


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda s: s.update({"params/backbone/conv1/kernel": np.ones((7, 7, 3, 8))}), "unexpected: params/backbone"),
        (
            lambda s: s.update({"bn1.weight": np.full(8, np.nan)}),
            "bn1/scale does not contain finite numbers only (float64)",
        ),
        (lambda s: s.update({"bn1.weight": np.full(8, "x")}), "bn1/scale does not contain finite numbers only (<U1)"),
    ],
)
def test_odd_arrays_are_refused(tmp_path, change, text):
    state = state_dict()
    change(state)
    with pytest.raises(CheckpointError) as error:
        initial_weights.load(save(tmp_path / "w.npz", state), two_heads())
    assert text in error.value.what


def test_names_of_data_parallel_are_understood(tmp_path):
    plain = initial_weights.load(save(tmp_path / "a.npz", state_dict()), two_heads())
    wrapped = save(tmp_path / "b.npz", {f"module.{name}": value for name, value in state_dict().items()})
    jax.tree.map(np.testing.assert_array_equal, initial_weights.load(wrapped, two_heads()), plain)


def test_unreadable_files_are_refused(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"no archive")
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    for name in ("w.npz", "w.safetensors"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            initial_weights.load(str(tmp_path / name), two_heads())
    with pytest.raises(ConfigError, match="no weights to start from"):
        initial_weights.load(str(tmp_path / "absent.npz"), two_heads())
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(ConfigError, match="'.h5' are not known"):
        initial_weights.load(str(tmp_path / "w.h5"), two_heads())
    with pytest.raises(CheckpointError, match="only for ResNets and Caffe's nets"):
        initial_weights.load(save(tmp_path / "v.npz", state_dict()), two_heads("ran56"))


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="cannot be read.*allow_pickle"):
        initial_weights.load(str(tmp_path / "w.npz"), two_heads())


@pytest.mark.skipif(bool(importlib.util.find_spec("torch")), reason="torch is installed")
def test_without_torch_the_error_names_the_pip_command(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match="pip install torch"):
        initial_weights.load(str(tmp_path / "w.pth"), two_heads())


def save_run(folder, variables, value=0.5):
    folder.mkdir()
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {name: jax.tree.map(lambda s: np.full(s.shape, value, s.dtype), variables[name]) for name in variables}
    checkpoints.save(7, state, default().to_dict(), {"val_loss": 1.0})
    checkpoints.close()
    return str(folder)


def test_a_run_to_start_from(tmp_path):
    run, notices = save_run(tmp_path / "run", two_heads(gender_to_age="none")), []
    leaves = initial_weights.load(run, two_heads(), notices.append)
    assert all((leaf == 0.5).all() for leaf in leaves.values()) and "params/gender_head/kernel" in leaves
    assert notices == [
        f"103 of 104 arrays start from {run}, step 7",
        "heads that keep their initialisation: params/age_head/kernel [64, 12] for [66, 12]",
    ]
    with pytest.raises(CheckpointError, match="missing: .*of another shape: "):
        initial_weights.load(run, two_heads("resnet50"))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        initial_weights.load(str(tmp_path), two_heads())


def test_files_with_our_names_are_read_in_any_storage(tmp_path):
    shapes = two_heads("levi_hassner")
    variables = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)
    weights.write(tmp_path, "small", variables, {"chip_size": 112, "calibration": None, "config": {}})
    leaves = initial_weights.load(str(tmp_path / "small.safetensors"), shapes)
    assert leaves.keys() == tree.named_leaves(variables).keys()
    assert {(leaf.dtype, *np.unique(leaf)) for leaf in leaves.values()} == {(np.dtype("float32"), 0.5)}
    with pytest.raises(CheckpointError, match="another net; missing"):
        initial_weights.load(str(tmp_path / "small.safetensors"), two_heads("resnet18"))


def load_weights(workdir, init_from, **fields):
    """Return what a run with `init_from` and these fields of the net starts from."""
    config = default()
    config.model.update(fields)
    config.data.image_size = 32
    config.init_from = init_from
    new_state = initial_state.initializer(config, train.build_model(config), optim.build(config.optimizer, 1))
    none_yet = types.SimpleNamespace(is_empty=lambda: True)
    return initial_state.load_weights(config, Workdir(workdir), none_yet, new_state, Progress())


def test_the_mean_of_several_runs(tmp_path):
    runs = [save_run(tmp_path / f"{value}", two_heads("levi_hassner"), value) for value in (0.5, 0.75, 2.5)]
    for run in runs:
        (Workdir(run).splits).write_text("file,split,dhash\n")
    net = {"name": "levi_hassner", "width": WIDTH}
    leaves = load_weights(tmp_path, ", ".join(runs), **net)
    assert {(leaf.dtype, *np.unique(leaf)) for leaf in leaves.values()} == {(np.dtype("float32"), 1.25)}
    assert leaves.keys() == tree.named_leaves(two_heads("levi_hassner")).keys()
    with pytest.raises(ConfigError, match="an empty name"):
        load_weights(tmp_path, f"{runs[0]},", **net)
    other = save_run(tmp_path / "other", two_heads("levi_hassner", gender_to_age="none"))
    with pytest.raises(CheckpointError, match="age_head/kernel only in one") as error:
        load_weights(tmp_path, f"{runs[0]},{other}", **net)
    assert error.value.where == f"{runs[0]} and {other}"


def test_shipped_weights_by_name(tmp_path, capsys):
    card = weights.card(weights.card(weights.DEFAULT).members[-1])

    def load(name, width=card.config["model"]["width"]):
        return load_weights(tmp_path, name, **card.config["model"] | {"width": width})

    _, variables = weights.load(card)
    jax.tree.map(np.testing.assert_array_equal, load(card.name), tree.named_leaves(variables))
    output = capsys.readouterr().out
    assert "trained on FairFace" in output and f"arrays start from the shipped weights {card.name}" in output
    with pytest.raises(CheckpointError, match="another net") as error:
        load(card.name, width=0.25)
    assert f"width {card.config['model']['width']:g}" in error.value.where
    with pytest.raises(ConfigError, match="is an ensemble") as error:
        load(weights.DEFAULT)
    assert card.name in error.value.fix


def test_training_from_a_run_inherits_its_images(tmp_path, capsys):
    synthetic.write_faces(tmp_path / "faces", 60, seed=0, size=32)
    config = default()
    config.model.update(name="levi_hassner", width=WIDTH)
    config.data.update(source=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache"), image_size=32)
    config.update(num_steps=1, init_from=save_run(tmp_path / "before", two_heads("levi_hassner")))
    config.optimizer.update(lr=1e-30, ema=0.5)
    config.log.figures = False
    run = tmp_path / "run"
    with pytest.raises(DataError, match="cannot check for train/test leakage"):
        train.fit(config, str(run), ["test"])
    assert not (run / "config.json").exists()  # the workdir is not taken by what did not begin
    faces = dataset.load_dataset(config)
    Workdir(tmp_path / "before").write_faces(faces.prepared, ["train"] * 60)
    train.fit(config, str(run), ["test"])

    folder = run / "checkpoints" / "1" / "state"
    expected = {name: leaves for name, leaves in tree.shapes(folder).items() if name in ("params", "ema")}
    assert all((leaf == 0.5).all() for leaf in jax.tree.leaves(tree.read(folder, expected)))
    assert json.loads((run / "results.json").read_text())["allow_leak"] is True
    assert "6 test images were trained or validated on" in capsys.readouterr().out
    options = {"source": None, "split": "test", "checkpoint": "best", "out": str(tmp_path / "out"), "allow_leak": False}
    with pytest.raises(DataError, match="6 of 6 images"):
        evaluate.evaluate([str(run)], **options)
