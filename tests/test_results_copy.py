"""The files copied back from a GPU machine: results, and nets restored from bfloat16 parts."""

import json
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import checkpoint
from agegender_jax.errors import CheckpointError
from benchmarks import (
    results_copy,
    small_weights,
)


def test_results_are_copied_each_time_and_nets_once(tmp_path, monkeypatch):
    """The results each time, the nets once, as far as the folder has room."""
    monkeypatch.setattr(results_copy, "FILES", 4)
    made = [tmp_path / name for name in ("a.part", "b.part", "c.part", "d.part")]
    for path in made:
        path.write_bytes(b"x" * 100)
    entries = {"first": made[:2], "second": made[2:], "none": []}
    points = {command: {"result": {"files": [str(path) for path in paths]}} for command, paths in entries.items()}
    results = tmp_path / "gpu.json"
    copy = results_copy.ResultsCopy(results, tmp_path / "one")
    copy()  # nothing is measured yet
    results.write_text(json.dumps({"points": points | {"failed": {"error": "no"}}}))
    copy()
    copy()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["a.part", "b.part", "gpu.json"]
    results_copy.ResultsCopy(results, tmp_path / "two")()
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["c.part", "d.part", "gpu.json"]
    monkeypatch.setattr(results_copy, "BYTES", 150)
    (tmp_path / "gpu.copied").unlink()
    results_copy.ResultsCopy(results, tmp_path / "three")()
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["gpu.json"]


def test_nets_are_restored_from_their_parts(tmp_path, monkeypatch):
    """Kernels of convolutions as bfloat16, in which the net uses them; all else is as it was."""
    draw = np.random.default_rng(0)
    kernel = draw.normal(0, 0.02, (3, 3, 8, 16)).astype(np.float32)
    others = {"bias": draw.normal(size=16).astype(np.float32), "kernel": draw.normal(size=(16, 3)).astype(np.float32)}
    config = {"model": {"dtype": "bfloat16"}}
    (tmp_path / "splits.csv").write_text("a\n")
    (tmp_path / "results.json").write_text("{}")
    saved = checkpoint.Checkpoints(tmp_path / "checkpoints")
    ema = {"params": {"conv": {"kernel": kernel}, "head": others}, "batch_stats": {}}
    saved.save(7, {"params": {"conv": {"kernel": -kernel}}, "ema": ema}, config, {"calibrated_loss": 1.0})
    saved.close()
    monkeypatch.setattr(small_weights, "PART", 2000)
    files = small_weights.store({"ran": tmp_path, "resnet": tmp_path}, "faces", tmp_path / "back")
    assert len(files) == 5 and all(path.stat().st_size <= 2000 for path in files[:-1])
    assert [path.name for path in small_weights.restore(tmp_path / "back", tmp_path / "out")] == ["ran", "resnet"]
    restored = tmp_path / "out" / "faces" / "resnet"
    assert (restored / "splits.csv").read_text() == "a\n" and (restored / "results.json").exists()
    variables, stored_config, step = checkpoint.load_variables(restored / "checkpoints")
    assert stored_config == config and step == 7
    exact = kernel.astype(jnp.bfloat16).astype(np.float32)
    assert np.array_equal(variables["params"]["conv"]["kernel"], exact) and not np.array_equal(exact, kernel)
    assert all(np.array_equal(variables["params"]["head"][name], value) for name, value in others.items())
    files[0].unlink()
    with pytest.raises(CheckpointError, match="parts are missing"):
        small_weights.restore(tmp_path / "back", tmp_path / "again")


def test_no_file_is_restored_outside_of_the_folder(tmp_path):
    (tmp_path / "evil").write_text("x")
    (tmp_path / "back").mkdir()
    with tarfile.open(tmp_path / "back" / "faces.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "evil", "../../evil2")
    with pytest.raises(CheckpointError, match="outside"):
        small_weights.restore(tmp_path / "back", tmp_path / "out")
    assert not (tmp_path / "evil2").exists()
