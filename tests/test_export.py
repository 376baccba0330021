"""launch.export: files that other programs load, with the probabilities of the nets."""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import agegender_jax
from agegender_jax import models, weights
from agegender_jax.config import default, to_dict
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.export import formats, loaders, program
from agegender_jax.prediction.members import Member
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run import export

SIZE = 32


def member(name, views="none", temperatures=(1.0, 1.0), size=SIZE, width=0.125, **fields):
    """Return a net with random weights; its BatchNorm statistics are random too."""
    config = default()
    config.model.update(name=name, width=width, **fields)
    config.data.image_size, config.eval.views = size, views
    config = weights.card_config(to_dict(config))
    net = models.from_config(config["model"])
    image = np.zeros((1, size, size, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), image)
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(functools.partial(_draw, rng), shapes)
    return Member(name, net, variables, config, temperatures)


def _draw(rng, path, leaf):
    name, shape = jax.tree_util.keystr(path), leaf.shape
    if len(shape) > 1:
        return (rng.normal(size=shape) * np.prod(shape[:-1]) ** -0.5).astype(np.float32)
    positive = "scale" in name or "var" in name
    return (rng.uniform(0.5, 1.5, shape) if positive else 0.1 * rng.normal(size=shape)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of an ensemble of two nets, one with two views and both with temperatures."""
    path = tmp_path_factory.mktemp("weights")
    for part in (member("resnet18", "flip", (0.8, 1.3)), member("levi_hassner", temperatures=(1.2, 1.0))):
        fields = {"config": part.config, "temperatures": part.temperatures, "chip_size": 112, "calibration": None}
        weights.write(path, part.name, part.variables, fields, storage="float32")
    both = {"members": ["resnet18", "levi_hassner"], "chip_size": 112, "calibration": None}
    weights.write_ensemble(path, "default", both)
    return path


@pytest.fixture(scope="module")
def images():
    return export.drawn_faces(SIZE, 5)


@pytest.fixture(scope="module")
def expected(folder, images):
    probs = Predictor(weights_dir=folder).probs({SIZE: images})
    assert np.ptp(probs.age, axis=0).max() > 0.01  # faces differ, and so must their predictions
    return probs


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """The folder of an export to all formats."""
    out = tmp_path_factory.mktemp("exports") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", folder)
        patch.setattr(export, "_difference", lambda *args: 0.0)
        export.export(
            workdirs=[],
            weights_name="default",
            to=["onnx", "stablehlo", "safetensors"],
            platforms=["cpu", "cuda"],
            checkpoint="best",
            out=str(out),
        )
    return out


def test_a_net_of_an_exported_ensemble_keeps_the_groups_of_its_labels(folder, tmp_path):
    years = [4.0, 14, 24, 34, 44, 54, 64, 77, 77, 77, 77, 77]
    predictor = Predictor(weights_dir=folder)
    predictor.members = [dataclasses.replace(net, open_from=7, bucket_years=years) for net in predictor.members]
    export._write_tensors(predictor, tmp_path)
    alone = Predictor(weights=predictor.members[0].name, weights_dir=tmp_path)
    assert alone.calibration is None
    assert (alone.faces_from_probs.open_from, alone.faces_from_probs.years.tolist()) == (7, years)


@pytest.mark.parametrize("kind", ["onnx", "stablehlo", "safetensors"])
def test_each_file_is_loaded_by_its_own_program(exported, images, expected, kind, monkeypatch, tmp_path):
    """Without this library and flax, but for safetensors, which holds weights alone."""
    if kind != "safetensors":  # modules that cannot be imported, in the folder that is searched first
        for module in ("flax", "agegender_jax", *(["jax"] if kind == "onnx" else [])):
            _hide(tmp_path, module)
        monkeypatch.setattr(agegender_jax, "__file__", str(tmp_path / "agegender_jax" / "__init__.py"))
    difference = export._difference(kind, exported / f"default{export.FORMATS[kind]}", images, expected)
    assert difference < 2e-6


def _hide(folder, module):
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text("raise ImportError('hidden')")


@pytest.mark.parametrize(("hidden_in", "paths"), [("current", ""), ("current", f"{os.pathsep}absent"), (".", "")])
def test_packages_in_the_current_folder_and_beside_the_file_are_not_used(
    exported, images, expected, hidden_in, paths, monkeypatch, tmp_path
):
    for name in ("default.onnx", "default.onnx.sha256", "load_onnx.py"):
        shutil.copy(exported / name, tmp_path)
    (tmp_path / "current").mkdir()
    _hide(tmp_path / hidden_in, "onnxruntime")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PYTHONPATH", paths)
    assert export._difference("onnx", tmp_path / "default.onnx", images, expected) < 2e-6


@pytest.mark.parametrize("kind", ["onnx", "stablehlo"])
def test_a_damaged_file_is_not_loaded(exported, images, expected, kind, tmp_path):
    path = tmp_path / f"default{export.FORMATS[kind]}"
    content = bytearray((exported / path.name).read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    for name in (f"{path.name}.sha256", f"load_{kind}.py"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        export._difference(kind, path, images, expected)


def test_dimensions_that_are_expressions_of_the_batch():
    def outputs(x):
        return jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)), mode="edge"), jnp.concatenate([x, x]).reshape(-1, SIZE, 3)

    images = np.arange(3 * SIZE * SIZE * 3, dtype=np.uint8).reshape(3, SIZE, SIZE, 3)
    padded, flat = jax.jit(program.for_any_platform(outputs, SIZE))(images)
    np.testing.assert_array_equal(padded, np.pad(images, ((0, 0), (1, 0), (0, 0), (0, 0)), mode="edge"))
    np.testing.assert_array_equal(flat, np.concatenate([images, images]).reshape(-1, SIZE, 3))


def test_loaders_have_ten_lines(exported):
    for path in exported.glob("load_*.py"):
        lines = [line for line in path.read_text().split('"""', 2)[2].splitlines() if line.strip()]
        assert len(lines) <= 10, path


def test_the_record_names_files_and_their_hashes(exported):
    record = json.loads((exported / "export.json").read_text())
    assert record["of"] == ["default"] and record["image_size"] == SIZE and set(record["files"]) == set(export.FORMATS)
    assert record["files"]["stablehlo"]["platforms"] == ["cpu", "cuda"]
    assert record["files"]["onnx"]["bytes"] == (exported / "default.onnx").stat().st_size


def test_a_program_for_cuda_contains_no_cpu_kernels():
    def count(platform, operation):
        content = formats.stablehlo([member("resnet18")], [platform])
        return len(re.findall(rf"stablehlo\.{operation}\b", jax.export.deserialize(bytearray(content)).mlir_module()))

    heads = 2  # the matrix products that are no convolutions
    assert count("cuda", "dot_general") == heads < count("cpu", "dot_general")
    assert count("cuda", "reduce_window") == 1 and count("cpu", "reduce_window") == 0


def test_a_batch_of_any_size(exported, images, expected):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = onnxruntime.InferenceSession(exported / "default.onnx")
    (images_in,) = session.get_inputs()
    assert images_in.type == "tensor(uint8)" and images_in.shape[1:] == [SIZE, SIZE, 3]
    for count in (1, 3):
        age, gender = session.run(["age", "gender"], {"images": images[:count]})
        np.testing.assert_allclose(age, expected.age[:count], atol=2e-6)
        np.testing.assert_allclose(gender, expected.gender[:count], atol=2e-6)


def test_a_file_with_other_predictions_is_an_error(exported, images, expected):
    other = expected.replace(age=expected.age[::-1])
    with pytest.raises(CheckpointError, match="differ by up to 0"):
        export._difference("onnx", exported / "default.onnx", images, other)


def test_a_file_that_cannot_be_loaded_is_an_error(exported, images, expected, tmp_path):
    for name in ("load_onnx.py", "default.onnx"):
        (tmp_path / name).write_bytes((exported / name).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        export._difference("onnx", tmp_path / "default.onnx", images, expected)


def test_nets_of_different_sizes_are_refused():
    with pytest.raises(ConfigError, match="different sizes: 32, 48 pixels"):
        program.image_size([member("levi_hassner"), member("levi_hassner", size=48)])


@pytest.mark.parametrize(("platforms", "message"), [(["cpu", "gpu"], "unknown platform 'gpu'"), ([], "no platform")])
def test_unknown_platforms_are_refused_before_nets_are_loaded(platforms, message):
    with pytest.raises(ConfigError, match=message):
        formats.stablehlo([member("levi_hassner")], platforms)
    options = {"to": ["stablehlo"], "weights_name": None, "checkpoint": "best", "out": None}
    with pytest.raises(ConfigError, match=message):
        export.export(workdirs=["absent"], platforms=platforms, **options)


def test_a_further_format_leaves_the_others_in_the_record(exported, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.setattr(export, "_difference", lambda *args: 0.0)
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    before = json.loads((out / "export.json").read_text())["files"]
    (out / before["stablehlo"]["file"]).write_bytes(b"changed")
    options = {"platforms": ["cpu"], "checkpoint": "best", "workdirs": [], "weights_name": "default"}
    after = export.export(to=["safetensors"], out=str(out), **options)["files"]
    assert set(after) == {"onnx", "safetensors"} and after["onnx"] == before["onnx"]
    assert json.loads((out / "export.json").read_text())["files"] == after


def test_the_record_is_no_card_and_no_card_replaces_it(exported):
    assert (exported / "export.json").exists() and "export" not in weights.names(exported)
    assert export._card_name(types.SimpleNamespace(name="export")) == "export-2"


def test_exports_of_other_nets_are_not_replaced(exported, folder, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", folder)
    options = {"to": ["safetensors"], "platforms": ["cpu"], "checkpoint": "best", "workdirs": []}
    with pytest.raises(ConfigError, match="exports of default"):
        export.export(weights_name="resnet18", out=str(exported), **options)
    with pytest.raises(ConfigError, match="no format is named"):
        export.export(weights_name="resnet18", out=None, **(options | {"to": []}))


def test_a_net_of_bfloat16_is_converted_in_float32():
    """ONNX Runtime has no convolutions of bfloat16 on CPUs."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    half, single = (member("levi_hassner", dtype=dtype) for dtype in ("bfloat16", "float32"))
    images = export.drawn_faces(SIZE, 3)
    session = onnxruntime.InferenceSession(formats.onnx([half], "net"))
    expected = jax.jit(program.function([single]))(images)
    for actual, value in zip(session.run(["age", "gender"], {"images": images}), expected, strict=True):
        np.testing.assert_allclose(actual, value, atol=1e-5)
    (compared,) = export._compared("onnx", types.SimpleNamespace(members=[half]))
    assert compared.model.backbone.dtype == jnp.float32
    assert export._compared("stablehlo", types.SimpleNamespace(members=[half])) == [half]


def shipped_of(folder, **about):
    """Give both cards of an ensemble in `folder` further fields."""
    for path in folder.glob("*.json"):
        card = json.loads(path.read_text())
        weights.cards.write(path, {name: value for name, value in card.items() if name != "digest"} | about)
    return folder


def tensors(out, **options):
    call = {"to": ["safetensors"], "platforms": ["cpu"], "checkpoint": "best", "workdirs": [], "weights_name": None}
    return export.export(out=str(out), **(call | options))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_licence_and_the_attribution_are_exported(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *args: 0.0)
    own = shipped_of(shutil.copytree(folder, tmp_path / "weights"), licence="CC BY 4.0", attribution="Somebody")
    tensors(tmp_path / "out", weights_dir=str(own))
    for name in weights.names(tmp_path / "out"):
        card = weights.card(name, tmp_path / "out")
        assert (card.about["licence"], card.about["attribution"]) == ("CC BY 4.0", "Somebody")
        assert card.members or card.about["storage"] == "float32"


def test_an_export_replaces_only_its_own_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *args: 0.0)
    own = shipped_of(shutil.copytree(folder, tmp_path / "weights"), licence="CC BY 4.0")
    before = contents(own)
    with pytest.raises(ConfigError, match="that this command did not write"):
        tensors(own, weights_dir=str(folder))
    assert contents(own) == before
    out = tmp_path / "out"
    tensors(out, weights_dir=str(own))
    before = contents(out)
    tensors(out, weights_dir=str(own))
    assert contents(out) == before
    (out / "load_safetensors.py").write_text("edited")
    with pytest.raises(ConfigError, match=r"load_safetensors.py that .* was changed since"):
        tensors(out, weights_dir=str(own))
    assert (out / "load_safetensors.py").read_text() == "edited"
    record = json.loads((out / "export.json").read_text())
    del record["files"]["safetensors"]["written"]  # as version 0.2.0 wrote it
    (out / "export.json").write_text(json.dumps(record))
    tensors(out, weights_dir=str(own))
    assert contents(out) == before


def test_a_file_that_differs_replaces_no_other(folder, tmp_path, monkeypatch):
    """And nothing else is left in the folder."""
    monkeypatch.setattr(export, "_difference", lambda *args: 0.0)
    tensors(tmp_path / "out", weights_dir=str(folder))
    before = contents(tmp_path / "out")

    def differs(*args):
        raise CheckpointError("the file's probabilities differ", "net", "do not use it")

    monkeypatch.setattr(export, "_difference", differs)
    with pytest.raises(CheckpointError):
        tensors(tmp_path / "out", weights_dir=str(folder))
    assert contents(tmp_path / "out") == before and not [p for p in (tmp_path / "out").iterdir() if p.is_dir()]


def test_a_card_has_the_digest_of_its_own_file(tmp_path):
    """Whatever further fields it is given, such as those of another card."""
    part = member("levi_hassner")
    card = {"config": part.config, "temperatures": (1.0, 1.0), "chip_size": 112, "calibration": None}
    weights.write(tmp_path, "own", part.variables, card | {"sha256": "0" * 64, "storage": "other", "schema": 9})
    assert weights.card("own", tmp_path).about["storage"] == "float16"
    weights.load(weights.card("own", tmp_path), tmp_path)


SYSTEMS = {
    "deep_attention": {"patch": 24},
    "local_dnn": {"width": 1.0},
    "region_sift": {"width": 1.0, "support": 4},
    "frequency_critic": {"width": 1.0},
    "levi_hassner": {"head": "elm", "elm_hidden": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ran56", "ran92", "resnet50", *SYSTEMS])
def test_other_nets_as_onnx(name, tmp_path):
    fields = {"gender_to_age": "none", **SYSTEMS[name]} if name in SYSTEMS else {}
    part = member(name, size=64, **fields)
    images = export.drawn_faces(64, 3)
    expected = jax.jit(program.function([part]))(images)
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = onnxruntime.InferenceSession(formats.onnx([part], name))
    for actual, value in zip(session.run(["age", "gender"], {"images": images}), expected, strict=True):
        np.testing.assert_allclose(actual, value, atol=1e-5)
    card = {"config": part.config, "temperatures": (1.0, 1.0), "chip_size": 112, "calibration": None}
    weights.write(tmp_path, name, part.variables, card, storage="float32")
    probs = Predictor(weights=name, weights_dir=tmp_path).probs({64: images})
    np.testing.assert_allclose(probs.age, expected[0], atol=1e-5)


def test_a_net_that_cannot_be_converted(monkeypatch):
    def refuse(*args, **options):
        raise NotImplementedError("no plugin for 'fft'\nand more")

    jax2onnx = pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
    monkeypatch.setattr(jax2onnx, "to_onnx", refuse)
    monkeypatch.setattr(program, "for_any_platform", lambda *args: None)
    with pytest.raises(ConfigError, match="jax2onnx cannot convert net: no plugin for 'fft'\n  where") as raised:
        formats.onnx([member("levi_hassner")], "net")
    assert (raised.value.where, raised.value.fix) == ("--to=onnx", "use --to=stablehlo or --to=safetensors")


def test_a_missing_converter(monkeypatch, folder):
    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ConfigError, match="jax2onnx") as raised:
        export.export(workdirs=[], weights_name="resnet18", to=["onnx"], platforms=["cpu"], checkpoint="best", out=None)
    assert "agegender-jax[onnx]" in raised.value.fix


def test_help_needs_no_jax():
    program = "import sys; sys.modules['jax'] = None; sys.argv = ['agegender', 'export', '--help']; "
    program += "from agegender_jax.cli.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "--platforms" in done.stdout, done.stderr


def test_a_damaged_digest_is_damage(tmp_path, monkeypatch):
    path = tmp_path / "net.jaxexport"
    path.write_bytes(b"x")
    (tmp_path / "net.jaxexport.sha256").write_bytes(b"\xff" * 64)
    monkeypatch.setattr("sys.argv", ["load_stablehlo.py", str(path)])
    with pytest.raises(SystemExit, match="is damaged"):
        exec(loaders.content("stablehlo"), {})
