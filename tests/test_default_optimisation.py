"""The tests of the numerics with programs that XLA optimises as it does for users."""

import os
import pathlib
import subprocess
import sys

import pytest

FILES = ("parallel", "ema", "training", "learning", "resume", "accumulation", "regularisation", "layers")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_numerics_pass_at_the_default_optimisation_level():
    if os.environ.get("AGEGENDER_XLA_DEFAULT"):
        return  # all tests are running that way
    root = pathlib.Path(__file__).parents[1]
    files = [f"tests/test_{name}.py" for name in FILES]
    variables = os.environ | {"AGEGENDER_XLA_DEFAULT": "1"}
    del variables["COMPILED_BY_TESTS"]  # a cache of its own
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow or not slow", *files]
    assert subprocess.run(command, cwd=root, env=variables).returncode == 0
