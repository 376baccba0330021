"""conftest.py: a test that is skipped for a reason that is not listed makes the run fail."""

import shutil
import subprocess
import sys

import programs
import pytest

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
