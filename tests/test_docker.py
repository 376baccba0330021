"""The Dockerfiles: their steps work in an environment of their own; images cannot be built without a Docker daemon."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import drawn_photos
import programs
import pytest

from agegender_jax import extras

FOLDER = programs.ROOT / "docker"
NAMES = ("cpu", "cuda")


def instructions(name):
    """(instruction, its text) of each line of a Dockerfile."""
    text = (FOLDER / f"{name}.Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_and_installed_exists(name):
    steps = instructions(name)
    copied = [word for kind, text in steps if kind == "COPY" for word in text.split()[:-1]]
    assert copied == ["pyproject.toml", "README.md", "LICENSE", "agegender_jax"]
    assert all((programs.ROOT / path).exists() for path in copied)
    sent = (programs.ROOT / ".dockerignore").read_text().splitlines()  # to the daemon: nothing but these
    assert sent == ["*", *(f"!{path}" for path in copied), "**/__pycache__"]
    (named,) = (re.search(r"\.\[(.*)\]", text)[1] for kind, text in steps if kind == "RUN" and "pip" in text)
    assert set(named.split(",")) <= {*extras.EXTRAS, "cuda12", "cuda13"}
    kinds = dict(steps)
    assert kinds["USER"] == "1000:1000" and json.loads(kinds["ENTRYPOINT"]) == ["agegender"]
    least = re.search(r'requires-python = ">=3\.(\d+)"', (programs.ROOT / "pyproject.toml").read_text())[1]
    assert int(re.fullmatch(r"python:3\.(\d+)-slim", kinds["FROM"])[1]) >= int(least)


def test_the_images_differ_by_cuda_only():
    cpu, cuda = (
        [(kind, text.replace(",cuda12", "").partition(" NVIDIA_")[0]) for kind, text in instructions(name)]
        for name in NAMES
    )
    assert cpu == cuda and instructions("cpu") != instructions("cuda")


@pytest.mark.slow
@pytest.mark.timeout(900)  # pip installs everything
def test_the_steps_predict_for_a_photo_in_an_environment_of_their_own(tmp_path):
    """Each COPY and RUN in a virtual environment, the root of whose files is a temporary folder."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {key: value for key, value in os.environ.items() if key in ("LANG", "HOME", "PIP_CONFIG_FILE")}
    environment["PATH"] = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    place = tmp_path
    for kind, text in instructions("cpu"):
        if kind == "ENV":
            environment |= dict(part.split("=", 1) for part in text.replace("/cache", f"{tmp_path}/cache").split())
        elif kind == "WORKDIR":
            place = tmp_path / text.lstrip("/")
            place.mkdir()
        elif kind == "COPY":
            *paths, target = shlex.split(text)
            for path in paths:
                source, to = programs.ROOT / path, place / target
                if source.is_dir():
                    shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, to)
        elif kind == "RUN":
            command = text.replace(" /cache", f" {tmp_path}/cache")
            done = subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    photo = drawn_photos.paste(drawn_photos.background(200, 260), drawn_photos.face(), (130, 100), 140)
    (place / "photo.jpg").write_bytes(drawn_photos.encode(photo, "JPEG"))
    entry = json.loads(dict(instructions("cpu"))["ENTRYPOINT"])
    done = subprocess.run([*entry, "predict", "photo.jpg"], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"photo\.jpg: age \d+", done.stdout), done.stderr
    assert list((tmp_path / "cache" / "agegender_jax").iterdir())  # compiled nets
