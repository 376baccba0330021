"""Which images a run has seen, according to its splits.csv and inherited.csv."""

import types

import numpy as np
import pytest
from test_near_duplicates import flip_bits, jpeg, smooth

from agegender_jax.data import near_duplicates
from agegender_jax.errors import DataError
from agegender_jax.run import checks, leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, write_csv

NAMES = [f"{i}.jpg" for i in range(6)]


def prepared(images, fingerprint):
    return types.SimpleNamespace(
        file=np.array(NAMES[: len(images)]),
        dhash=np.stack([near_duplicates.dhash(image) for image in images]),
        thumbnail=np.stack([near_duplicates.thumbnail(image) for image in images]),
        sha256=np.array([f"{i:064x}" for i in range(len(images))]),
        group=np.arange(len(images)),
        fingerprint=fingerprint,
        bad=[],
    )


@pytest.fixture
def run(tmp_path):
    """A run trained on the pictures 0 to 3, validated on 4 and tested on 5."""
    run = Workdir(tmp_path / "run")
    run.path.mkdir()
    run.write_faces(prepared([smooth(i) for i in range(6)], "own"), ["train"] * 4 + ["val", "test"])
    run.write_run([], "faces", "own")
    return run


def leaked(run, images, fingerprint="other"):
    faces = Dataset(prepared(images, fingerprint), np.array(["test"] * len(images)))
    return leaks.find(run, faces, "test").tolist()


def without_thumbnails(path):
    """Rewrite splits.csv as version 0.1.0 wrote it."""
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    assert header.pop() == "thumbnail"
    write_csv(path, header, [row[:-1] for row in rows])


def test_images_that_were_left_out_of_training_are_not_seen(run):
    run.write_faces(prepared([smooth(i) for i in range(6)], "own"), ["", "", "train", "train", "val", "test"])
    assert leaked(run, [smooth(i) for i in range(6)], "own") == [2, 3, 4]


def test_copies_are_found_in_another_source_and_test_images_are_not(run):
    images = [smooth(0)[:, ::-1], jpeg(smooth(1), 40), smooth(5), smooth(4), smooth(9)]
    assert leaked(run, images) == [0, 1, 3]


def impostor(monkeypatch, bits):
    """Return another picture, whose hash differs from picture 0's in `bits` bits."""
    near, dhash = flip_bits(near_duplicates.dhash(smooth(0)), bits), near_duplicates.dhash
    other = smooth(9)
    monkeypatch.setattr(near_duplicates, "dhash", lambda image: near if image is other else dhash(image))
    return other


def test_other_people_with_a_similar_hash_count_only_in_the_runs_own_source(run, monkeypatch):
    other = impostor(monkeypatch, 27)
    assert leaked(run, [other]) == [] and leaked(run, [other], "own") == [0]


def test_runs_of_version_0_1_have_no_thumbnails_and_the_hash_decides(run, monkeypatch):
    other = impostor(monkeypatch, 27)
    without_thumbnails(run.splits)
    assert leaked(run, [other, smooth(9), smooth(5)]) == [0]


@pytest.mark.parametrize("old", [False, True])
def test_images_of_the_run_that_training_started_from(run, tmp_path, monkeypatch, old):
    other = impostor(monkeypatch, 27)
    if old:
        without_thumbnails(run.splits)
    later = Workdir(tmp_path / "later")
    later.path.mkdir()
    later.write_faces(prepared([smooth(7)], "new"), ["train"])
    later.write_run([], "faces", "new")
    leaks.inherit(later, [str(run.path)])
    assert leaked(later, [smooth(3), smooth(7), smooth(5), other], "own") == [0, 1, *([3] if old else [])]
    last = Workdir(tmp_path / "last")
    last.path.mkdir()
    last.write_faces(prepared([smooth(8)], "newest"), ["train"])
    leaks.inherit(last, [str(later.path)])
    assert leaked(last, [smooth(3), smooth(7), smooth(8), smooth(5)], "own") == [0, 1, 2]
    before = last.inherited.read_text()
    leaks.inherit(last, [str(run.path), str(later.path)])
    assert sorted(last.inherited.read_text().splitlines()) == sorted(before.splitlines())


def test_images_of_val_that_an_earlier_run_was_trained_on(run, tmp_path):
    """Those that it was only validated on do not count."""
    later = Workdir(tmp_path / "later")
    later.path.mkdir()
    faces = Dataset(prepared([smooth(i) for i in (3, 4, 5, 1, 9)], "new"), np.array(["val"] * 3 + ["train", "val"]))
    assert leaks.find_trained_val(later, faces).tolist() == []
    leaks.inherit(later, [str(run.path)])
    assert leaks.find_trained_val(later, faces).tolist() == [0]
    last = Workdir(tmp_path / "last")
    last.path.mkdir()
    later.write_faces(prepared([smooth(4)], "new"), ["train"])
    for sources in ([run, later], [later, run]):
        leaks.inherit(last, [str(source.path) for source in sources])
        assert leaks.find_trained_val(last, faces).tolist() == [0, 1]
    write_csv(last.inherited, ("dhash",), [[near_duplicates.dhash(smooth(3))[:32].tobytes().hex()]])
    assert leaks.find_trained_val(last, faces).tolist() == []  # of an earlier version, which did not say


def test_inherited_csv_of_version_0_1(run):
    write_csv(run.inherited, ("dhash",), [[near_duplicates.dhash(smooth(11))[:32].tobytes().hex()]])
    assert leaked(run, [smooth(11), smooth(12)]) == [0]


def test_hashes_of_version_0_2_have_no_mirror_image(run):
    """Such a run has seen a picture with a white background; hashes of both kinds can be inherited."""
    white = smooth(0).copy()
    white[:, :40] = 255
    run.write_faces(prepared([white, *map(smooth, range(1, 6))], "own"), ["train"] * 4 + ["val", "test"])
    rows = [row.split(",") for row in run.splits.read_text().splitlines()]
    run.splits.write_text("".join(",".join([*row[:4], row[4][:64], row[5]]) + "\n" for row in rows))
    images = [white[:, ::-1], smooth(1)[:, ::-1], smooth(5)]
    assert leaked(run, images) == [0, 1]
    hashes = near_duplicates.dhash(smooth(11)).tobytes().hex(), near_duplicates.dhash(smooth(12))[:32].tobytes().hex()
    write_csv(run.inherited, ("dhash",), [[text] for text in hashes])
    assert leaked(run, [smooth(12), smooth(13), smooth(11)]) == [0, 2]


FLIPS = [("train", "tsain"), ("\n1", "*1"), (",train", "ltrain")]  # of a bit in splits.csv


@pytest.mark.parametrize("damage", [None, "", "file,split\n1.jpg,train\n", "split,dhash\ntrain,abc\n", *FLIPS])
def test_a_damaged_splits_csv_is_an_error(run, damage):
    good = run.splits.read_text()
    run.splits.unlink()
    if damage is not None:
        run.splits.write_text(damage if isinstance(damage, str) else good.replace(*damage, 1))
    with pytest.raises(DataError, match="cannot check for train/test leakage") as caught:
        leaked(run, [smooth(0)])
    assert caught.value.where == str(run.splits)


def test_a_run_does_not_resume_with_another_split(run):
    splits = np.array(["train"] * 4 + ["val", "test"])
    images = prepared([smooth(i) for i in range(6)], "own")
    (run.checkpoints / "1").mkdir(parents=True)
    checks.same_data(run, Dataset(images, splits))
    splits[:] = ["test", *splits[:-1]]
    with pytest.raises(DataError, match="3 images are in another split"):
        checks.same_data(run, Dataset(images, splits))
    (run.checkpoints / "1").rmdir()  # nothing is trained yet: splits.csv is written again
    checks.same_data(run, Dataset(images, splits))
