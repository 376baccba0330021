"""The images that an evaluation scores: their source, and their split."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_runs
from tiny_runs import evaluate

from agegender_jax import config as config_lib
from agegender_jax import synthetic
from agegender_jax.data import named_sources
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run import checks
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.scoring import named_runs, scored_images
from agegender_jax.run.workdir import Workdir, write_csv


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny_runs.make_config(tmp_path_factory.mktemp("data"), 60)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return tiny_runs.make_run(tmp_path_factory.mktemp("runs") / "run", config)


def test_only_a_source_that_the_user_named_is_read(run, config, tmp_path, monkeypatch):
    own = named_runs.read_config(Workdir(run))
    copy = Workdir(shutil.copytree(run, tmp_path / "copy"))
    theirs = own | {"data": own["data"] | {"source": str(tmp_path)}}

    def source(run, config, named=None):
        return scored_images.data_config([run], [config], named).data.source

    assert source(Workdir(run), own) == source(copy, own) == config.data.source  # the training has named it
    with pytest.raises(ConfigError, match=f"perhaps from an untrusted place.*\n.*\n.*--source={tmp_path}"):
        source(copy, theirs)
    assert source(copy, theirs, str(tmp_path)) == str(tmp_path)
    for generic in ("synthetic", config_lib.default().data.source):
        assert source(copy, own | {"data": own["data"] | {"source": generic}}) == generic
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert source(Workdir(run), own) == config.data.source
    with pytest.raises(ConfigError, match="perhaps from an untrusted place"):
        source(copy, own)
    named_sources.remember(f"synthetic:5,{config.data.source}")
    assert source(copy, own) == config.data.source and not named_sources.is_source(f"{config.data.source},/etc")


def test_a_source_that_no_member_was_trained_on_is_scored_completely(run, config, tmp_path, capsys):
    synthetic.write_faces(tmp_path / "others", 20, seed=7, size=32)
    others = str(tmp_path / "others")
    results = evaluate(run, out=tmp_path / "all", source=others)
    assert (results["split"], results["n"]) == ("all", 20)
    assert "others is not the source of any member: 20 of its 20 images are scored, " in capsys.readouterr().out
    assert evaluate(run, out=tmp_path / "test", source=others, split="test")["n"] == 2
    assert "is not the source" not in capsys.readouterr().out


def test_mirror_images_that_no_split_has_are_not_called_scored(run, capsys):
    dataset = Dataset(SimpleNamespace(name="others", fingerprint="x"), np.array(["train", "", "test", "", "val"]))
    with Progress() as progress:
        configs = [Workdir(run).read_config()]
        assert scored_images.choose_split([Workdir(run)], configs, "others", dataset, progress) == "all"
    assert "3 of its 5 images are scored, those of all splits; " in capsys.readouterr().out


def test_the_members_own_source_is_scored_on_test(run, config, tmp_path, capsys):
    copy = shutil.copytree(config.data.source, tmp_path / "copy")  # the same images elsewhere
    (copy / "linked").symlink_to(tmp_path)
    for i, source in enumerate((None, config.data.source, str(copy))):
        results = evaluate(run, out=tmp_path / str(i), source=source)
        assert (results["split"], results["n"]) == ("test", 6)
        warning = f"WARNING: part of the source is left out: linked: a link to the folder {tmp_path}, not followed"
        assert capsys.readouterr().out.count(warning) == (source == str(copy))


def test_the_start_of_a_run_says_what_is_left_out_of_its_source(config, tmp_path):
    notes, dataset = [], load_dataset(config)
    prepared = dataclasses.replace(dataset.prepared, left_out=[("linked", "a link, not followed")])
    with Workdir(tmp_path / "run") as folder:
        folder.write_start(config, [], prepared, dataset.assignment, notes.append)
    assert notes == [f"WARNING: {prepared.warning()}"]


def test_the_source_of_a_run_that_trained_on_more_is_its_own(run, config, tmp_path):
    """Also under another path, which it shares with a run that trained on no others."""
    synthetic.write_faces(tmp_path / "more", 20, seed=9, size=32)
    copy = str(shutil.copytree(config.data.source, tmp_path / "copy"))
    wider = config.copy_and_resolve_references()
    wider.data.update(source=copy, train_on=str(tmp_path / "more"))
    both = tiny_runs.make_run(tmp_path / "both", wider, test=False)
    for i, source in enumerate((config.data.source, copy)):
        results = evaluate(both, out=tmp_path / str(i), source=source)
        assert (results["split"], results["n"]) == ("test", 6)
    joined = evaluate(both, out=tmp_path / "joined", source=f"{tmp_path / 'more'},{copy}", allow_leak=True)
    assert joined["split"] == "test"
    assert evaluate(both, out=tmp_path / "all", source=str(tmp_path / "more"), allow_leak=True)["split"] == "all"
    read = named_runs.read_runs([str(run), str(both)])
    assert scored_images.data_config(*read, None).data.source == config.data.source
    both.joinpath("splits.csv").unlink()
    with pytest.raises(ConfigError, match="the members were trained on different sources"):
        scored_images.data_config(*read, None)
    options = {"source": config.data.source, "allow_leak": True}
    assert evaluate(both, out=tmp_path / "unknown", **options)["split"] == "all"


@pytest.fixture(scope="module")
def by_csv(config, tmp_path_factory):
    """A run without a net, trained on more images, whose split was named by a CSV that is no longer there."""
    folder = tmp_path_factory.mktemp("by_csv")
    own = load_dataset(config)
    rows = list(zip(own.prepared.file, own.assignment[::-1], strict=True))
    write_csv(folder / "splits.csv", ("file", "split"), rows)
    synthetic.write_faces(folder / "more", 5, seed=9, size=32)
    tested = next(file for file, split in rows if split == "test")
    shutil.copy(Path(config.data.source) / tested, folder / "more")  # the same name and pixels
    named = config.copy_and_resolve_references()
    named.data.update(splits=str(folder / "splits.csv"), train_on=str(folder / "more"))
    dataset = load_dataset(named)
    with Workdir(folder / "run") as run:
        run.write_start(named, ["test"], dataset.prepared, dataset.assignment, print)
    (folder / "splits.csv").unlink()
    return run


def load_scored(*runs, source=None):
    config = scored_images.data_config(*(read := named_runs.read_runs([str(run) for run in runs])), source)
    with Progress() as progress:
        return scored_images.load_scored(*read, config, progress)


def test_the_split_that_a_csv_named_is_scored(run, by_csv, config, tmp_path):
    own = load_dataset(config)
    copy = shutil.copytree(config.data.source, tmp_path / "copy")
    for source in (None, config.data.source, str(copy)):
        scored = load_scored(by_csv.path, source=source)
        assert scored.assignment.tolist() == own.assignment[::-1].tolist()
    scored_images.check_leak(by_csv, scored, "test")
    with pytest.raises(DataError, match="6 of 6 images, or near-duplicates of them, were trained"):
        scored_images.check_leak(Workdir(run), scored, "test")
    assert load_scored(run, by_csv.path, source=config.data.source).assignment.tolist() == own.assignment.tolist()


def test_a_changed_source_of_a_split_that_a_csv_named_is_an_error(by_csv, config, tmp_path):
    changed = config.copy_and_resolve_references()
    changed.data.source = str(shutil.copytree(config.data.source, tmp_path / "faces"))
    changed.data.splits = "splits.csv"
    synthetic.write_faces(tmp_path / "faces", 3, seed=7, size=32)
    dataset = load_dataset(config)
    with Workdir(tmp_path / "run") as run:
        run.write_start(changed, ["test"], dataset.prepared, dataset.assignment, print)
    named_sources.remember(changed.data.source)
    with pytest.raises(DataError, match="images that the run's splits.csv does not name") as error:
        load_scored(run.path)
    assert str(run.splits) in error.value.where
    elsewhere = load_scored(by_csv.path, source=changed.data.source)  # another source, which contains that of the run
    assert len(elsewhere.indices("all")) == 63 and len(elsewhere.indices("test")) == 6


def test_a_resumed_run_may_take_its_csv_from_elsewhere_but_not_another_split(by_csv, config, tmp_path):
    own = shutil.copytree(by_csv.path, tmp_path / "run")
    (own / "checkpoints" / "1").mkdir(parents=True)
    resumed = config_lib.default()
    resumed.update(by_csv.read_config())
    resumed.data.splits = str(by_csv.splits)
    assert checks.same_run(Workdir(own), resumed)
    dataset = load_dataset(resumed)
    checks.same_data(Workdir(own), dataset)
    dataset.assignment[:] = np.where(dataset.assignment == "val", "test", dataset.assignment)
    with pytest.raises(DataError, match="6 images are in another split than when the run began") as error:
        checks.same_data(Workdir(own), dataset)
    assert "data.splits" in error.value.fix
