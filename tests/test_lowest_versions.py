"""The library works with the lowest versions that pyproject.toml allows.

pip install uv
python -m pytest -m slow tests/test_lowest_versions.py

uv resolves `--resolution lowest-direct` into a new virtual environment, which takes about 1 GB and a connection to a
package index. Raise a lower bound in pyproject.toml where this fails. The upper bound is the newest release of jax
with which the whole suite has passed.
"""

import os
import shutil
import subprocess
import sys

import programs
import pytest

SMALL = ("--config.model.width=0.125", "--config.data.image_size=32", "--config.data.source=synthetic:300")
TESTS = ("test_checkpoint", "test_config", "test_extras", "test_optim", "test_prepare")


def run(*command, cwd=programs.ROOT):
    environment = programs.environment() | {"PYTHONPATH": str(programs.ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lowest(tmp_path_factory):
    """The Python of a virtual environment with the lowest versions."""
    uv = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))
    if not uv:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("lowest")
    run(uv, "venv", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    lowest = ("--resolution", "lowest-direct", "-r", "pyproject.toml", "--extra", "dev")
    run(uv, "pip", "install", "--python", python, *lowest)
    return python


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_training_resuming_and_evaluation(lowest, tmp_path):
    arguments = ("--config=quickstart:resnet", *SMALL, f"--config.data.cache_dir={tmp_path / 'cache'}", "--workdir=run")
    for steps in (2, 4):
        run(lowest, "-m", "agegender_jax.cli", "train", *arguments, f"--config.num_steps={steps}", cwd=tmp_path)
    run(lowest, "-m", "agegender_jax.cli", "evaluate", "--workdir=run", "--out=report", cwd=tmp_path)
    assert (tmp_path / "report" / "results.json").exists() and (tmp_path / "run" / "checkpoints" / "4").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TESTS)
def test_suites_pass_with_the_lowest_versions(lowest, name):
    run(lowest, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{name}.py")
