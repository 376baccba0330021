"""The list of the mutation run fits the library: each change applies to its file, and its tests exist."""

import programs
import pytest

from tests.mutations.changes import CHANGES


def test_there_are_enough_changes_with_unique_names():
    assert len({change.name for change in CHANGES}) == len(CHANGES) >= 60


@pytest.mark.parametrize("file", sorted({change.file for change in CHANGES}))
def test_changes_apply(file):
    text = (programs.ROOT / file).read_text()
    for change in (change for change in CHANGES if change.file == file):
        compile(change.apply(text), change.name, "exec")
        assert all((programs.ROOT / "tests" / f"{test.partition(' ')[0]}.py").exists() for test in change.tests)
