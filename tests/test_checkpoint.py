import contextlib
import errno
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agegender_jax.checkpoint import Checkpoints, load_variables, saving
from agegender_jax.errors import CheckpointError
from agegender_jax.structs import TrainState

CONFIG = {"model": {"name": "ran56"}}


def make_state(step, shape=(3, 4), ema=None):
    params = {"conv1": {"kernel": jax.random.normal(jax.random.key(step), shape)}}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    return TrainState(
        step=jnp.int32(step),
        params=params,
        batch_stats={"bn": {"mean": jnp.full(3, float(step))}},
        opt_state=tx.init(params),
        ema=ema,
        sums={"loss": jnp.float32(step)},
    )


@pytest.fixture
def notices():
    return []


@pytest.fixture
def saved(tmp_path, notices):
    """Steps 1 to 4 with losses 5, 2, 3, 4: the two latest and the best stay."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", notices.append)
    for step, loss in ((1, 5.0), (2, 2.0), (3, 3.0), (4, 4.0)):
        checkpoints.save(step, make_state(step), CONFIG, {"val_loss": loss})
    checkpoints.finish()
    yield checkpoints
    checkpoints.close()


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_round_trip_is_exact_and_best_and_latest_stay(saved):
    assert saved.steps() == [2, 3, 4] and (saved.latest_step(), saved.best_step()) == (4, 2)
    assert {path.name for path in saved.folder.iterdir()} == {"2", "3", "4"}
    state, step = saved.restore_latest(make_state(0))
    assert step == 4
    assert_equal(state, make_state(4))
    assert_equal(saved.restore("best", make_state(0))[0], make_state(2))


@pytest.mark.parametrize("name", ["run[1]", "a\\b"])
def test_characters_of_patterns_in_the_path(name, tmp_path):
    checkpoints = Checkpoints(tmp_path / name)
    checkpoints.save(1, make_state(1), CONFIG)
    checkpoints.close()
    assert_equal(checkpoints.restore(1, make_state(0))[0], make_state(1))


def test_evaluation_reads_only_variables_and_config(saved):
    variables, config, step = load_variables(saved.folder)
    assert (step, config) == (2, CONFIG) and set(variables) == {"params", "batch_stats"}
    assert_equal(variables["params"], make_state(2).params)


def test_the_moving_average_is_what_evaluation_sees(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    average = {"conv1": {"kernel": jnp.full((3, 4), 7.0)}}
    checkpoints.save(1, make_state(1, ema=average), CONFIG)
    checkpoints.close()
    assert_equal(load_variables(tmp_path, "latest")[0]["params"], average)


def damage(folder, how):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    if how == "flipped bit":
        largest.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    elif how == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    elif how == "file gone":
        largest.unlink()
    elif how == "marker gone":
        (folder / "state" / "commit_success.txt").unlink(missing_ok=True)
        (folder / "state" / "_METADATA").unlink()
    elif how == "manifest gone":
        (folder / "manifest.json").unlink()
    elif how in MANIFEST_BITS:
        path = folder / "manifest.json"
        before, after = MANIFEST_BITS[how]
        assert path.read_bytes().count(before) == 1
        path.write_bytes(path.read_bytes().replace(before, after))
    else:
        (folder / "manifest.json").write_text("{")


MANIFEST_BITS = {
    "manifest with another schema": (b'"schema": 1', b'"schema": 3'),
    "manifest with another loss": (b'"val_loss": 4', b'"val_loss": 0'),
}
DAMAGES = ["flipped bit", "truncated", "file gone", "marker gone", "manifest gone", "manifest torn", *MANIFEST_BITS]


@pytest.mark.parametrize("how", DAMAGES)
def test_restore_skips_and_renames_a_damaged_step(saved, notices, how):
    damage(saved.folder / "4", how)
    state, step = saved.restore_latest(make_state(0))
    assert step == 3 and len(notices) == 2 and "checkpoint 4 is not used" in notices[0]
    assert_equal(state, make_state(3))
    assert "4.unreadable" in notices[1] and names(saved) == {"2", "3", "4.unreadable"}
    saved.save(4, make_state(4), CONFIG, {"val_loss": 4.0})
    saved.finish()
    damage(saved.folder / "4", how)
    assert saved.restore_latest(make_state(0))[1] == 3
    assert names(saved) == {"2", "3", "4.unreadable", "4.unreadable-2"}


def test_nothing_usable_is_an_error_with_every_reason(saved):
    for step in (2, 3, 4):
        damage(saved.folder / str(step), "truncated")
    with pytest.raises(CheckpointError, match="step 4: .*step 3: .*step 2: ") as caught:
        saved.restore_latest(make_state(0))
    assert caught.value.code == 4 and names(saved) == {"2", "3", "4"}


def names(checkpoints):
    return {path.name for path in checkpoints.folder.iterdir()}


@contextlib.contextmanager
def unreadable(checkpoints, step, how):
    """Make the manifest of a step unreadable: moved away, of a newer schema, or an error of the system."""
    path = checkpoints.folder / str(step) / "manifest.json"
    if how in ("missing", "newer schema"):
        content = path.read_bytes()
        path.unlink()
        if how == "newer schema":
            path.write_text('{"schema": 2, "version": "9.0", "step": 2}')
        yield
        path.write_bytes(content)
        return
    read_bytes = pathlib.Path.read_bytes

    def fail(self):
        if self == path:
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)), str(self))
        return read_bytes(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", fail)
        yield


UNREADABLE = ["missing", "newer schema", "EIO", "ESTALE", "EACCES"]


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_save_removes_no_step_that_it_cannot_read(saved, notices, how):
    with unreadable(saved, 2, how):
        for step, loss in ((5, 6.0), (6, 7.0)):
            saved.save(step, make_state(step), CONFIG, {"val_loss": loss})
            saved.finish()
    assert names(saved) == {"2", "3", "5", "6"}  # 3 was the best of those that could be read
    assert len(notices) == 1 and "checkpoint 2 cannot be read and is left in place: manifest.json" in notices[0]
    assert saved.best_step() == 2
    saved.save(7, make_state(7), CONFIG, {"val_loss": 8.0})
    saved.finish()
    assert names(saved) == {"2", "6", "7"} and saved.best_step() == 2


def test_a_step_of_another_schema_is_not_passed_over(saved, notices):
    with unreadable(saved, 4, "newer schema"), pytest.raises(CheckpointError, match="schema 2.*version 9.0") as caught:
        saved.restore_latest(make_state(0))
    assert "use the version" in caught.value.fix and names(saved) == {"2", "3", "4"} and not notices
    assert saved.restore_latest(make_state(0))[1] == 4


@pytest.mark.parametrize("name", ["iterdir", "rename"])
def test_a_save_does_not_fail_where_older_steps_cannot_be_removed(saved, notices, monkeypatch, name):
    action = getattr(pathlib.Path, name)

    def fail(self, *args):
        if self.name == "checkpoints" or str(args).find(".leaving") > 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return action(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, name, fail)
        saved.save(5, make_state(5), CONFIG, {"val_loss": 6.0})
        saved.finish()
    assert names(saved) == {"2", "3", "4", "5"} and "older checkpoints cannot be removed" in notices[0]


def test_a_removed_folder_is_one_error(saved):
    shutil.rmtree(saved.folder.parent)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="step 5 could not be saved: No such file"):
            saved.save(5, make_state(5), CONFIG)


def test_metrics_are_added_to_a_saved_step(tmp_path):
    saved_steps = []
    checkpoints = Checkpoints(tmp_path, on_saved=saved_steps.append)
    for step, loss in ((1, 2.0), (2, 1.0), (3, 3.0), (4, 4.0)):
        checkpoints.save(step, make_state(step), CONFIG)
        checkpoints.finish()
        assert saved_steps[-1] == step and not checkpoints.is_scored(step)
        checkpoints.add_metrics(step, {"val_loss": loss})
        checkpoints.finish()
        assert checkpoints.is_scored(step)
    assert checkpoints.steps() == [2, 3, 4] and checkpoints.best_step() == 2
    checkpoints.add_metrics(4, None)
    assert load_variables(tmp_path)[2] == 2


def test_none_where_nothing_was_saved(tmp_path):
    assert Checkpoints(tmp_path).restore_latest(make_state(0)) is None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_variables(tmp_path)


def test_another_model_is_named(saved):
    with pytest.raises(CheckpointError, match=r"another model.*params/conv1/kernel float32\[3,4\] for float32\[5,4\]"):
        saved.restore_latest(make_state(0, shape=(5, 4)))


def test_a_missing_step_is_an_error(saved):
    with pytest.raises(CheckpointError, match="no checkpoint of step 9"):
        saved.restore(9, make_state(0))


def test_a_save_is_independent_of_later_changes(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {"a": np.zeros(1000, np.float32)}
    checkpoints.save(1, state, CONFIG)
    state["a"][:] = 1
    restored, _ = checkpoints.restore_latest(state)
    np.testing.assert_array_equal(restored["a"], 0)


def test_full_disk_is_reported_before_and_while_saving(saved, monkeypatch):
    usage = shutil.disk_usage(saved.folder)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
        with pytest.raises(CheckpointError, match="disk is full"):
            saved.save(5, make_state(5), CONFIG)
    with monkeypatch.context() as full:

        def fail(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(saving.manifest, "write", fail)
        saved.save(5, make_state(5), CONFIG)
        with pytest.raises(CheckpointError, match="disk is full") as caught:
            saved.finish()
    assert caught.value.code == 4 and saved.steps() == [2, 3, 4]
    assert {path.name for path in saved.folder.iterdir()} == {"2", "3", "4"}
    saved.save(5, make_state(5), CONFIG)
    assert saved.restore_latest(make_state(0))[1] == 5


def test_a_save_needs_disk_space_for_1_3_states(saved, monkeypatch):
    state = {"a": np.zeros(1000, np.float32), "b": np.zeros((2, 5), np.int32)}  # 4,040 bytes
    usage = shutil.disk_usage(saved.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5251))
    with pytest.raises(CheckpointError, match="a checkpoint of step 5 needs 5,252 bytes, 5,251 are free"):
        saved.save(5, state, CONFIG)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5252))
    saved.save(5, state, CONFIG)
    saved.finish()
    assert saved.steps() == [2, 4, 5]


@pytest.mark.parametrize("change, reason", [(b"x", r"\d+ bytes, not \d+"), (b"", "sha256 differs")])
def test_a_file_of_another_size_or_content_is_named(saved, change, reason):
    path = saved.folder / "4" / "config.json"
    path.write_bytes(path.read_bytes().replace(b"ran56", b"ran92") + change)
    with pytest.raises(CheckpointError, match=rf"step 4: config.json is damaged \({reason}\)"):
        saved.restore(4, make_state(0))


def test_leftovers_of_a_killed_save_are_removed(saved):
    shutil.copytree(saved.folder / "4", saved.folder / "5.saving")
    shutil.copytree(saved.folder / "4", saved.folder / "4.backup")  # a person's own
    (saved.folder / "3").rename(saved.folder / "3.replaced")
    (saved.folder / "notes").mkdir()
    again = Checkpoints(saved.folder)
    assert {path.name for path in pathlib.Path(saved.folder).iterdir()} == {"2", "3", "4", "4.backup", "notes"}
    assert again.steps() == [2, 3, 4]
