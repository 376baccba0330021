"""launch.baselines: which systems, their configs, resumption, the page; solved systems as runs; what is refused."""

import json

import numpy as np
import pytest
import small_run

from agegender_jax import configs, extras, files, models
from agegender_jax.config import validate
from agegender_jax.configs import baselines as common
from agegender_jax.errors import ConfigError
from agegender_jax.run import solve, train
from agegender_jax.run.baselines import command, page, systems
from agegender_jax.run.workdir import Workdir


def test_every_system_has_a_valid_config(tmp_path):
    found = command.check(systems.SYSTEMS, common.get_config("quick"), Workdir(tmp_path))
    for config in found.values():
        validate(config)
    assert len(found) == len(systems.SYSTEMS)
    assert {config.model.name for config in found.values()} >= set(models.systems())
    cited = " ".join(system.cites for system in systems.SYSTEMS)
    assert all(f"[{n}]" in cited for n in (15, 16, 17, 18, 19, 20, 21, 22, 27))
    assert found["elm"].init_from == str(tmp_path / "caffenet")


def test_chosen_systems_bring_what_they_need():
    assert [system.name for system in command.choose(["elm"])] == ["resnet18", "caffenet", "elm"]
    assert len(command.choose([])) == len(systems.SYSTEMS)
    with pytest.raises(ConfigError) as error:
        command.choose(["region_sift_lad"])
    assert "region_sift_lda" in error.value.fix


def test_the_folder_of_other_systems_is_refused(tmp_path):
    config, folder = common.get_config("quick"), Workdir(tmp_path)
    command.check_same(folder, config)
    files.replace(tmp_path / "common.json", files.to_json(config.to_dict()))
    command.check_same(folder, config)
    config.num_epochs = 3
    with pytest.raises(ConfigError, match="another config: num_epochs"):
        command.check_same(folder, config)
    config.num_epochs, config.seed = 2, 1
    with pytest.raises(ConfigError, match="another config: seed: 0 -> 1"):
        command.check_same(folder, config)


def test_the_page():
    difference = {"difference": -0.02, "ci95": [-0.04, 0.01]}
    rows = [
        {
            "name": "resnet18",
            "cites": "this library",
            "differs": "",
            "age_accuracy": 0.5,
            "ci95": {"age_accuracy": [0.4, 0.6]},
        },
        {
            "name": "elm",
            "cites": "[16], 2018",
            "differs": "no back-propagation",
            "parameters": 1234,
            "multiply_adds": 2.5e6,
        }
        | {"seconds": 3.0, "differences": {"resnet18": {"age_accuracy": difference, "gender_accuracy": None}}},
    ]
    content = {"source": {"name": "faces", "fingerprint": "f" * 64}, "n": 10, "systems": rows, "reference": "resnet18"}
    text = page.render(content)
    assert "0.500 [0.400, 0.600]" in text and "| elm | [16], 2018 |  | 1,234 | 2.5 | 3.0 |" in text
    assert "| elm | -0.020 [-0.040, +0.010] |  |  | no back-propagation |" in text


def test_what_solved_systems_refuse(tmp_path, monkeypatch):
    config = configs_of("cnn_elm")
    with pytest.raises(ConfigError, match="the elm head needs a trained net"):
        train.fit(config, str(tmp_path / "run"), [])
    config = configs_of("region_sift")
    config.init_from = str(tmp_path)
    with pytest.raises(ConfigError, match="starts from nothing"):
        train.fit(config, str(tmp_path / "run"), [])
    config.init_from = ""
    monkeypatch.setattr(extras, "_installed", lambda module: module != "sklearn")
    with pytest.raises(ConfigError) as error:
        train.fit(config, str(tmp_path / "run"), [])
    assert "pip install 'agegender-jax[baselines]'" in error.value.fix
    assert not (tmp_path / "run").exists()


def configs_of(name, variant=""):
    import importlib

    assert name in configs.names()
    return importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)


@pytest.mark.slow
def test_solved_systems_are_ordinary_runs(tmp_path):
    config = small_run.config(tmp_path)
    train.fit(config, str(tmp_path / "cnn"), [])
    first = {}
    for head in ("elm", "ridge"):
        config.model.update(head=head, gender_to_age="none", elm_hidden=20)
        config.init_from = str(tmp_path / "cnn")
        train.fit(config, str(tmp_path / head), [])
        first[head] = (tmp_path / head / "predictions.csv").read_text()
        train.fit(config, str(tmp_path / head), [])  # passes over what is done
        assert (tmp_path / head / "inherited.csv").exists()
        fit = json.loads((tmp_path / head / solve.FIT).read_text())
        assert fit["log2_c_age"] in range(-20, 17) and fit["seconds"] >= 0
    assert first["elm"] != first["ridge"]
    sift = small_run.config(tmp_path)
    sift.model.update(name="region_sift", gender_to_age="none", classifier="layered", width=1.0)
    train.fit(sift, str(tmp_path / "sift"), [])
    train.fit(sift, str(tmp_path / "sift"), [])
    stored = json.loads((tmp_path / "sift" / "config.json").read_text())
    splits = (tmp_path / "sift" / "splits.csv").read_text()
    assert stored["model"]["support"] == splits.count(",train,") > 0
    from agegender_jax import ensemble, loading

    model, variables, _ = loading.load(tmp_path / "sift")
    probs = ensemble.predict(model, variables, np.zeros((2, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(probs.age.sum(1), 1, rtol=1e-5)


@pytest.mark.slow
def test_two_systems_and_their_table(tmp_path):
    config = small_run.config(tmp_path)
    found = command.baselines(config, str(tmp_path / "out"), ["region_sift_lda"], ["launch.baselines"])
    assert [row["name"] for row in found["systems"]] == ["resnet18", "region_sift_lda"]
    again = command.baselines(config, str(tmp_path / "out"), ["region_sift_lda"], ["launch.baselines"])
    assert again["systems"] == found["systems"]
    text = (tmp_path / "out" / command.PAGE).read_text()
    assert "Paired differences to resnet18" in text and "| region_sift_lda | " in text
