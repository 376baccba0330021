"""The evaluation command in process: which runs it takes, and what it scores."""

import pytest

from agegender_jax import config as config_lib
from agegender_jax.errors import ConfigError
from agegender_jax.run import evaluate
from agegender_jax.run.workdir import Workdir


def untrained(path):
    """A workdir with the default config and nothing else."""
    path.mkdir(parents=True)
    Workdir(path).write_config(config_lib.to_dict(config_lib.default()))
    return path


def test_a_run_named_twice_is_refused(tmp_path, monkeypatch):
    first, second = untrained(tmp_path / "runs" / "a"), untrained(tmp_path / "runs" / "b")
    (tmp_path / "link").symlink_to(first)
    monkeypatch.chdir(tmp_path / "runs")
    for same in (str(first), "a", "b/../a", str(tmp_path / "link")):
        with pytest.raises(ConfigError, match=f"a run is named twice: {first}") as caught:
            evaluate.read_runs([str(first), str(second), same])
        assert caught.value.where == f"--workdir={same}"
    assert len(evaluate.read_runs([str(first), "b"])[0]) == 2
