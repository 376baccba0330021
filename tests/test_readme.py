"""README's Python runs, and its commands are what CI and the contract say."""

import pathlib
import re

import numpy as np

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_example_runs():
    (source,) = blocks("python")
    found = {}
    exec(source, found)
    assert found["probs"].age.shape == (2, 12) and found["probs"].gender.shape == (2, 2)
    np.testing.assert_allclose(found["probs"].age.sum(-1), 1, rtol=1e-5)
    assert len(found["attention"]) == 3


def test_two_command_blocks():
    quickstart, tests = blocks("bash")
    assert "pip install" in quickstart and quickstart.count("launch.") == 3
    for place in ("runs/quickstart/ran", "runs/quickstart/resnet", "reports/quickstart"):
        assert place in quickstart
    assert "[dev]" in tests and "pytest" in tests
