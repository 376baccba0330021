"""The annotations are right and give users the types of the public functions: mypy with pyproject.toml's settings."""

import subprocess
import sys

import programs


def test_mypy_passes_strict_for_what_users_import():
    command = [sys.executable, "-m", "mypy", "--cache-dir", programs.ROOT / ".mypy_cache"]
    done = subprocess.run(command, cwd=programs.ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
