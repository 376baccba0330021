"""The wheel contains only the library, and works outside the repository when installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import drawn_photos
import programs
import pytest

import agegender_jax
from agegender_jax import configs

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the files that it is made from."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(programs.ROOT / name, source)
    for name in ("agegender_jax", "benchmarks", "configs", "launch", "tests"):
        shutil.copytree(programs.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=source, check=True, capture_output=True, timeout=120)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the installed wheel; its dependencies are those of the running Python."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    return folder


def run(installed, *command, cwd="/"):
    environment = programs.environment() | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


def agegender(installed, *arguments, cwd="/"):
    return run(installed, installed / "bin" / "agegender", *arguments, cwd=cwd)


def test_the_wheel_contains_all_of_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.startswith("agegender_jax-")}
    paths = [path for path in (programs.ROOT / "agegender_jax").rglob("*") if path.is_file()]
    assert files == {path.relative_to(programs.ROOT).as_posix() for path in paths if path.suffix != ".pyc"}
    assert "agegender_jax/py.typed" in files


def test_the_command_works_outside_the_repository(installed):
    done = agegender(installed, "--version")
    assert done.stdout == f"agegender_jax {agegender_jax.__version__}\n", done.stderr
    done = agegender(installed, "--help")
    assert done.returncode == 0 and "evaluate" in done.stdout
    done = agegender(installed, "train", "--config=nosuch")
    programs.check(done, 2, ", ".join(configs.names()))


def test_the_library_is_imported_from_where_it_is_installed(installed):
    done = run(installed, sys.executable, "-c", "import agegender_jax as a; print(a.__file__, a.load.__name__)")
    assert done.stdout == f"{installed}{os.sep}agegender_jax{os.sep}__init__.py load\n", done.stderr


@pytest.mark.slow
def test_training_outside_the_repository(installed, tmp_path):
    small = ("--config.model.width=0.125", "--config.data.image_size=32", "--config.data.source=synthetic:300")
    steps = ("--config.num_steps=2", "--workdir=run", f"--config.data.cache_dir={tmp_path / 'cache'}")
    done = agegender(installed, "train", "--config=quickstart:resnet", *small, *steps, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists() and (tmp_path / "run" / "MODEL_CARD.md").exists()
    source = "import agegender_jax; print(agegender_jax.load('run')[2]['model']['name'])"
    assert run(installed, sys.executable, "-c", source, cwd=tmp_path).stdout == "resnet18\n"
    done = agegender(installed, "models")
    assert "`ran56`" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_photo_is_predicted_outside_the_repository_with_the_weights_of_the_wheel(installed, tmp_path):
    photo = drawn_photos.paste(drawn_photos.background(200, 260), drawn_photos.face(), (130, 100), 140)
    (tmp_path / "photo.jpg").write_bytes(drawn_photos.encode(photo, "JPEG"))
    done = agegender(installed, "predict", "photo.jpg", cwd=tmp_path)
    assert done.returncode == 0 and re.search(r"photo\.jpg: age \d+ \(\d+-\d+ at 90%\)", done.stdout), done.stderr
    row = json.loads((tmp_path / "answers" / "predictions.jsonl").read_text())
    assert row["weights"] == "default" and row["status"] in ("ok", "unsure") and row["p_female"] != 0.5
