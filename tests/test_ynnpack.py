"""Convolutions on CPUs without YNNPACK: when XLA_FLAGS gets the setting, and that XLA follows it."""

import ast
import importlib.metadata
import os
import subprocess
import sys

import programs
import pytest

from agegender_jax.run.host import interpreter, ynnpack

WITHOUT = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
CONVOLUTION = """
from agegender_jax.run.host import ynnpack
if AVOID:
    ynnpack.avoid()
import jax, jax.numpy as jnp
conv = lambda x, w: jax.lax.conv(x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (1, 1), "SAME").transpose(0, 2, 3, 1)
text = jax.jit(conv).lower(jnp.zeros((16, 32, 32, 64)), jnp.zeros((3, 3, 64, 64))).compile().as_text()
print("%ynn_fusion" in text)
"""
PROGRAM = "import atexit, os\natexit.register(lambda: print('flags', os.environ.get('XLA_FLAGS')))\n"


@pytest.fixture
def flags(monkeypatch):
    """A function that sets XLA_FLAGS, avoids YNNPACK, and returns the new XLA_FLAGS; on a CPU with jaxlib 0.12.3."""
    monkeypatch.setattr(interpreter, "uses_cpu", lambda: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"jaxlib": "0.12.3"}[name])

    def after(before):
        monkeypatch.setenv("XLA_FLAGS", before)
        ynnpack.avoid()
        return os.environ["XLA_FLAGS"]

    return after


def test_the_setting_is_added_once(flags):
    assert flags("") == WITHOUT
    assert flags("--xla_dump_to=x") == f"--xla_dump_to=x {WITHOUT}"
    assert flags(WITHOUT) == WITHOUT


def test_the_users_choice_is_respected(flags):
    own = "--xla_cpu_experimental_ynn_fusion_type=individual_convolution"
    assert flags(own) == own


def test_other_devices_are_unaffected(flags, monkeypatch):
    monkeypatch.setattr(interpreter, "uses_cpu", lambda: False)
    assert flags("") == ""


@pytest.mark.parametrize("version, known", [("0.8.0", False), ("0.10.0", True), ("0.12.0.1", True), ("0.13.0", False)])
def test_a_jaxlib_that_may_not_know_the_setting_does_not_get_it(flags, monkeypatch, version, known):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert flags("") == (WITHOUT if known else "")


def test_a_jaxlib_without_metadata_does_not_get_it(flags, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert flags("") == ""


def test_xla_follows_the_setting():
    """This is the installed jaxlib: it gives convolutions to YNNPACK unless it is told not to, if it knows YNNPACK."""
    env = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(programs.ROOT)}

    def uses_ynnpack(avoid):
        code = CONVOLUTION.replace("AVOID", str(avoid))
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip() == "True"

    assert not uses_ynnpack(avoid=True)
    assert uses_ynnpack(avoid=False) == ynnpack._has_ynnpack()


def test_programs_avoid_ynnpack(tmp_path):
    """`ablate` without --workdir fails before jax is imported."""
    (tmp_path / "sitecustomize.py").write_text(PROGRAM)
    env = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": f"{tmp_path}:{programs.ROOT}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "launch.ablate", "--config=ran"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert f"flags {WITHOUT if ynnpack._has_ynnpack() else ''}".strip() in lines, done.stderr


def test_benchmarks_that_compute_in_their_own_process_avoid_ynnpack():
    """The others start the commands, or call `app.run` of the library."""
    compute = (
        "bulk devices evaluation explanations face_flags folding ideas layers pasted_faces recipe_ladder "
        "shipped_weights weight_choices"
    )
    for name in compute.split():
        module = ast.parse((programs.ROOT / "benchmarks" / f"{name}.py").read_text())
        (main,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "main")
        assert ast.unparse(main.body[0]) == "ynnpack.avoid()", name
