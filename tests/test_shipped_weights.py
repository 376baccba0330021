"""The shipped weights: what their cards say, their size, and their predictions for eight drawn faces."""

import hashlib
import json
import re
import runpy
import shlex
import types

import drawn_photos
import jax
import numpy as np
import pytest
import small_weights
from absl import flags

import agegender_jax
from agegender_jax import Predictor, models, weights
from agegender_jax import config as config_lib
from agegender_jax.cli import app
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.prediction.calibration import parse
from benchmarks import card_scores, open_group

MEGABYTES = 25
FACES = [
    (2, 34, 1),
    (3, 34, 1),
    (5, 25, 0),
    (6, 60, 1),
    (7, 8, 1),
    (8, 45, 0),
    (9, 70, 0),
    (10, 16, 1),
]  # seed, age, gender
GOLDEN = [
    (23.94, 0.8488, 0, 59),
    (43.36, 0.2002, 10, 120),
    (30.32, 0.79, 0, 69),
    (30.98, 0.9575, 0, 69),
    (9.35, 0.9159, 0, 29),
    (45.0, 0.2754, 10, 120),
    (42.46, 0.8318, 10, 120),
    (28.03, 0.535, 0, 59),
]  # age, p_female, age_low, age_high of `predictions()`, printed by `python tests/test_shipped_weights.py`


def predictions():
    """Return the predictions for the drawn faces, taken as chips."""
    chips = [drawn_photos.face(seed, 112, age, gender) for seed, age, gender in FACES]
    return [(face.age, round(face.p_female, 4), *face.age_interval) for face in Predictor(detector="none")(chips)]


def test_predictions_stay_the_same():
    """Other weights, another order of channels or another scale of pixels give other predictions."""
    measured = predictions()
    assert len(measured) == len(GOLDEN) == len(FACES)
    for (age, p_female, *interval), expected in zip(measured, GOLDEN, strict=True):
        assert age == pytest.approx(expected[0], abs=0.05) and p_female == pytest.approx(expected[1], abs=0.002)
        assert tuple(interval) == expected[2:]


def test_faces_are_found_in_photos():
    photo = drawn_photos.background(240, 620)
    for i, (seed, age, gender) in enumerate(FACES[:2]):
        photo = drawn_photos.paste(photo, drawn_photos.face(seed, 160, age, gender), (160 + 300 * i, 120), 180)
    faces = Predictor()(photo)
    assert len(faces) == 2 and all(face.calibrated for face in faces)


def test_load_takes_the_name_of_shipped_weights(monkeypatch, tmp_path):
    name = weights.card("default").members[0]
    model, variables, config = agegender_jax.load(name)
    assert config == weights.card(name).config
    assert isinstance(model, models.AgeGenderNet) and model.num_age_classes == 12
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert parameters == weights.card(name).about["parameters"]
    with pytest.raises(ConfigError, match=rf"default is an ensemble[\s\S]*load {name}"):
        agegender_jax.load("default")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a run's folder of that name comes first
    with pytest.raises(CheckpointError):
        agegender_jax.load(name)


def test_every_file_is_described_and_all_are_small():
    assert {path.name for path in weights.FOLDER.glob("*.safetensors")} == {
        f"{name}.safetensors" for name in weights.names() if weights.card(name).members is None
    }
    assert sum(path.stat().st_size for path in weights.FOLDER.iterdir() if path.is_file()) <= MEGABYTES * 1e6
    default = weights.card(weights.DEFAULT)
    kinds = [weights.card(name).config["model"]["name"] for name in default.members]
    assert set(kinds) == {"ran56", "resnet18"}  # an ensemble of both, as in the paper


@pytest.mark.parametrize("name", weights.names())
def test_a_card_says_what_its_users_need(name):
    card = weights.card(name)
    about = card.about
    assert about["licence"] == "CC BY 4.0" and "FairFace" in about["attribution"] and about["training"]
    assert "more than 70" in about["labels"]
    assert about["scores"] == card_scores.of_card(name)
    assert parse(card.calibration).open_from == 7
    assert "/tmp" not in json.dumps(about) and "/home" not in json.dumps(about)
    if card.members is None:
        content = (weights.FOLDER / f"{name}.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == card.sha256 and about["split_sha256"] and about["command"]
        assert np.isfinite(card.temperatures).all() and about["parameters"] > 0


@pytest.mark.parametrize("name", [name for name in weights.names() if weights.card(name).members is None])
def test_the_commands_of_a_card_have_its_net_and_recipe(name):
    card = weights.card(name)
    commands = [shlex.split(part) for part in card.about["command"].split(" && ")]
    trainings = [command for command in commands if "launch.train" in command]
    sizes = []
    for command in trainings:
        fields = dict(item.removeprefix("--").split("=", 1) for item in command if item.startswith("--"))
        config = app.ConfigFile().parse(fields.pop("config"))
        values = dict(config_lib.flat(config))
        changes = {key.removeprefix("config."): text for key, text in fields.items() if key.startswith("config.")}
        config.update_from_flattened_dict({field: type(values[field])(text) for field, text in changes.items()})
        sizes.append(config.data.image_size)
        assert {key: config.model[key] for key in ("name", "width", "dropout")} == {
            key: card.config["model"][key] for key in ("name", "width", "dropout")
        }
        assert (config.loss.age, config.augment.erasing) == ("ce", 0.0)  # the recipe has changed since
        assert config.augment.mixup == (0.2 if config.loss.teacher else 0.0)
    assert sizes == sorted(sizes) and sizes[-1] == card.config["data"]["image_size"]


def test_an_open_last_group_is_one_group_when_it_is_scored():
    probs = np.array([[0, 0, 0, 0, 0, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]], np.float32)
    joined = open_group.join(probs, 7)
    assert joined.shape == probs.shape and joined[0].argmax() == 7 and joined[0, 7] == pytest.approx(0.5)
    labels = np.array([[6, 6], [7, 7], [8, 8], [7, 11]])
    assert open_group.join_labels(labels, 7).tolist() == [[6, 6], [7, 11], [7, 11], [7, 11]]
    assert open_group.join(probs, None) is probs and open_group.join_labels(labels, None).tolist() == labels.tolist()


def test_the_command_lists_weights_with_their_scores(tmp_path, monkeypatch, capsys):
    flag, defined = types.SimpleNamespace(value=None), []
    monkeypatch.setattr(flags, "DEFINE_string", lambda *options: defined.append(options[0]) or flag)
    module = runpy.run_module("agegender_jax.cli.weights")
    module["main"]([])
    out = capsys.readouterr().out
    assert defined == ["weights_dir"] and out.startswith("default: ") and f"cards: {weights.FOLDER}" in out
    scores = weights.card("default").about["scores"].values()
    assert all(f"gender {row['gender_accuracy']:.3f}, AABD" in out for row in scores)
    module["main"](["default"])
    out = capsys.readouterr().out
    assert out.startswith("default: ") and "\nfairface_resnet18: " not in out
    for row in scores:
        low, high = row["ci95"]["aabd"]
        assert f"AABD {row['aabd']:.3f} [{low:.3f}, {high:.3f}]" in out
        assert f"over 25: yes for {100 * row['over']['25']['yes_below']:.1f} % of those below" in out
        child = row["groups"]["age"]["0-9"]
        cells = [str(child["n"]), *(f"{child[score]:.2f}" for score in ("age_accuracy", "gender_accuracy", "aabd"))]
        assert re.search(rf"^    0-9 +{' +'.join(cells)} ", out, re.M)
    with pytest.raises(ConfigError, match="no weights called 'x'"):
        module["main"](["x"])
    flag.value = str(small_weights.write(tmp_path))
    module["main"]([])
    assert capsys.readouterr().out.startswith("default: one + two\none: levi_hassner, width 0.125, 32x32 pixels\n")
    flag.value = str(tmp_path / "absent")
    with pytest.raises(ConfigError, match="no weights in the folder"):
        module["main"]([])


ODD = (
    {"scores": [1]},
    {"scores": {"test": 0.9}},
    {"scores": {"test": {"age_accuracy": "0.5"}}},
    {"scores": {"test": {"age_accuracy": None}}},
    {"scores": {"test": {"age_accuracy": 0.5, "ci95": {"age_accuracy": [1]}}}},
    {"scores": {"test": {"sure": {}}}},
    {"scores": {"test": {"groups": {"age": {"0-9": {"n": 1, "age_accuracy": 1, "gender_accuracy": 1, "aabd": 0}}}}}},
    {"config": {}},
    {"config": {"model": {"name": "resnet18"}, "data": {"image_size": 32}}},
)


@pytest.mark.parametrize("fields", ODD)
def test_a_card_with_odd_fields_is_named_and_the_others_are_listed(fields, tmp_path, monkeypatch, capsys):
    flag = types.SimpleNamespace(value=str(small_weights.write(tmp_path)))
    monkeypatch.setattr(flags, "DEFINE_string", lambda *options: flag)
    main = runpy.run_module("agegender_jax.cli.weights")["main"]
    card = {name: value for name, value in json.loads((tmp_path / "one.json").read_text()).items() if name != "digest"}
    weights.cards.write(tmp_path / "odd.json", card | fields)
    (tmp_path / "notes.json").write_text('["mine"]')
    (tmp_path / "._one.json").write_bytes(b"\0")
    main([])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in lines] == ["default", "notes", "odd", "one", "two", "cards"]
    assert "the card of the weights is damaged" in lines[1]
    with pytest.raises(CheckpointError, match="cannot be described"):
        main(["odd"])


@pytest.mark.parametrize("command", ["predict", "explain", "export", "demo"])
def test_commands_for_photos_choose_nets_by_the_same_options(command):
    text = (weights.FOLDER.parent / "cli" / f"{command}.py").read_text()
    for flag in ("workdir", "weights", "weights_dir", "checkpoint"):
        assert re.search(rf'^{flag.upper()} = flags.DEFINE_\w+\(\s*"{flag}"', text, re.M), flag
        assert f"{flag.upper()}.value" in text, flag


if __name__ == "__main__":
    print(*predictions(), sep=",\n")
