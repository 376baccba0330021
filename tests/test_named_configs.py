"""The library's configs by name, from any folder, and as files of the repository."""

import importlib

import programs
import pytest

from agegender_jax import configs
from agegender_jax.cli import app


@pytest.mark.parametrize("name", configs.names())
def test_a_config_is_the_same_by_name_and_as_a_file(name):
    named = app.ConfigFile().parse(name)
    assert named.is_locked and named == app.ConfigFile().parse(str(programs.ROOT / "configs" / f"{name}.py"))


def test_the_repository_has_a_file_for_each_name():
    assert {path.stem for path in (programs.ROOT / "configs").glob("[!_]*.py")} == set(configs.names())


def test_variants_follow_the_name():
    assert app.ConfigFile().parse("ran:92,paper").model.name == "ran92"


@pytest.mark.parametrize("name", configs.names())
def test_a_config_states_its_command(name):
    text = importlib.import_module(f"agegender_jax.configs.{name}").__doc__
    assert f" train --config={name}" in text or f"--config=configs/{name}.py" in text


def test_a_name_works_in_a_folder_without_configs(tmp_path):
    done = programs.run("train", "--config=ran:92", "--config.batch_size=0", cwd=tmp_path)
    programs.check(done, 2, "batch_size must be at least 1")
    programs.check(programs.run("train", "--config=nosuch", cwd=tmp_path), 2, "'nosuch'", ", ".join(configs.names()))
