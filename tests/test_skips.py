"""conftest.py: a test that is skipped for a reason that is not listed makes the run fail."""

import ast
import re
import shutil
import subprocess
import sys

import programs
import pytest
from browser import MISSING
from conftest import ALLOWED_SKIPS

MAY_SKIP = re.compile(r"pytest\.(mark\.)?skip|importorskip|skipped=")
SKIPPING = ("importorskip", "skipif")
TEST = (
    "import pytest\n\ndef test_one():\n    pass\n\n@pytest.mark.skipif(True, reason={!r})\ndef test_two():\n    pass\n"
)


@pytest.mark.parametrize(
    "reason, code, text",
    [
        ("PyTorch is not installed", 0, "1 x PyTorch is not installed: runs where PyTorch is installed"),
        ("some day", 1, "1 x some day: UNEXPECTED"),
    ],
)
def test_unexpected_skips_fail_and_all_are_summed_up(reason, code, text, tmp_path):
    shutil.copy(programs.ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TEST.format(reason))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code and text in done.stdout, done.stdout


def skip_reasons(text):
    """Yield (line, reason) of the calls in a test file that may skip tests; None where there is no reason."""
    tree = ast.parse(text)
    strings = {"MISSING": MISSING}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            strings[ast.unparse(node.targets[0])] = node.value.value
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        reasons = [keyword.value for keyword in call.keywords if keyword.arg in ("reason", "skipped")]
        if name == "skip":
            reasons = reasons or call.args
        elif name not in SKIPPING and not any(keyword.arg == "skipped" for keyword in call.keywords):
            continue
        reason = reasons[0] if reasons else ast.Constant(None)
        yield call.lineno, strings.get(ast.unparse(reason), getattr(reason, "value", None))


def test_every_reason_to_skip_is_listed():
    listed, count = re.compile("|".join(ALLOWED_SKIPS)), 0
    for path in (programs.ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if not MAY_SKIP.search(text) or path.name == "test_points.py":  # whose reasons are those of its points
            continue
        for line, reason in skip_reasons(text):
            assert isinstance(reason, str) and listed.fullmatch(reason), f"{path.name}:{line}: {reason}"
            count += 1
    assert count > 20
