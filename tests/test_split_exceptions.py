"""Sources only for training, files that are left out, and the split of the tested images, which neither changes."""

import shutil
import types

import numpy as np
import pytest
from PIL import Image

from agegender_jax import config as config_lib
from agegender_jax.data import split_exceptions, splits
from agegender_jax.errors import DataError
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.workdir import Workdir


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 faces in `own`; in `more` ten others and copies of all 40: as they are, mirrored or scaled."""
    folder = tmp_path_factory.mktemp("selection")
    for name in ("own", "more"):
        (folder / name).mkdir()
    for i in range(40):
        picture(i).save(folder / "own" / f"{i}_0_0_{i:017}.png")
        copy = (picture(i), picture(i).transpose(Image.Transpose.FLIP_LEFT_RIGHT), picture(i).resize((40, 40)))[i % 3]
        copy.save(folder / "more" / f"{i}_1_0_{i:017}.png")
    for i in range(40, 50):
        picture(i).save(folder / "more" / f"{i}_1_0_{i:017}.png")
    return folder


def dataset(folder, **fields):
    config = config_lib.default()
    config.data.update(source=str(folder / "own"), cache_dir=str(folder / "cache"), **fields)
    return load_dataset(config)


def names(faces, split):
    return {file.rpartition("/")[2] for file in faces.prepared.file[faces.indices(split)]}


@pytest.fixture(scope="module")
def alone(folder):
    return dataset(folder)


@pytest.fixture(scope="module")
def joined(folder):
    return dataset(folder, train_on=str(folder / "more"))


def test_a_mirror_image_on_a_plain_background_is_not_in_two_splits(tmp_path):
    """Equal neighbours have the same bit in the hashes of both, so that they are in different groups."""
    (tmp_path / "own").mkdir()
    for i in range(40):
        picture(i).save(tmp_path / "own" / f"{i}_0_0_{i:017}.png")
    for i in range(10):
        half = np.array(picture(50 + i).resize((170, 170)))
        half[:, :100] = 255
        for n, image in enumerate((half, half[:, ::-1])):
            Image.fromarray(image).save(tmp_path / "own" / f"{i}_1_{n}_{i:017}.png")
    left_out = 0
    for seed in range(5):
        faces = dataset(tmp_path, split_seed=seed)
        of = dict(zip(faces.prepared.file.tolist(), faces.assignment.tolist(), strict=True))
        pairs = [(of[f"{i}_1_0_{i:017}.png"], of[f"{i}_1_1_{i:017}.png"]) for i in range(10)]
        assert all(a == b or "" in (a, b) for a, b in pairs)
        assert len(faces.indices("test")) == 6  # val may lose some
        left_out += sum("" in pair for pair in pairs)
    assert left_out > 5


def test_a_csv_of_splits_does_not_put_a_mirror_image_into_two_splits(tmp_path):
    """As in the default split: of images on a plain background, which are in different groups."""
    rows = ["file,split"]
    for i in range(12):
        picture(i).save(write(tmp_path / "own" / f"{i}_0_0_{i:017}.png"))
        rows.append(f"{i}_0_0_{i:017}.png,{'train' if i < 8 else 'val' if i < 10 else 'test'}")
    for i, kept in enumerate(("test", "val")):
        half = np.array(picture(50 + i).resize((170, 170)))
        half[:, :100] = 255
        Image.fromarray(half).save(write(tmp_path / "own" / f"{i}_1_0_{i:017}.png"))
        rows.append(f"{i}_1_0_{i:017}.png,{kept}")
        Image.fromarray(half[:, ::-1]).save(write(tmp_path / "own" / f"{i}_1_1_{i:017}.png"))
        rows.append(f"{i}_1_1_{i:017}.png,train")
        Image.fromarray(half[:, ::-1]).save(write(tmp_path / "more" / f"{i}_1_2_{i:017}.png"))
    picture(60).save(write(tmp_path / "more" / f"60_1_0_{60:017}.png"))
    (tmp_path / "splits.csv").write_text("\n".join(rows))
    faces = dataset(tmp_path, splits=str(tmp_path / "splits.csv"), train_on=str(tmp_path / "more"))
    split = {file.rpartition("/")[2]: of for file, of in zip(faces.prepared.file, faces.assignment, strict=True)}
    for i, kept in enumerate(("test", "val")):
        assert [split[f"{i}_1_{n}_{i:017}.png"] for n in range(3)] == [kept, "", ""]
    assert split[f"60_1_0_{60:017}.png"] == "train"


def write(path):
    path.parent.mkdir(exist_ok=True)
    return path


def test_further_sources_do_not_change_val_and_test(alone, joined):
    for split in ("val", "test"):
        assert names(joined, split) == names(alone, split) != set()
    assert all(
        file.startswith("own/") for split in ("val", "test") for file in joined.prepared.file[joined.indices(split)]
    )


def test_copies_of_held_out_images_do_not_train(alone, joined):
    """A copy has the same age in its name, which is that of one picture alone."""
    ages = {split: {name.partition("_")[0] for name in names(alone, split)} for split in ("train", "val", "test")}
    more = {file for file in joined.prepared.file[joined.indices("train")] if file.startswith("more/")}
    assert {file.split("/")[1].partition("_")[0] for file in more} == ages["train"] | {
        str(age) for age in range(40, 50)
    }
    unused = joined.prepared.file[joined.assignment == splits.UNUSED]
    assert len(unused) == len(names(alone, "val")) + len(names(alone, "test"))
    assert len(joined.indices("all")) == 90 - len(unused)


def test_several_further_sources_train_and_are_not_held_out(folder, alone, joined, tmp_path):
    (tmp_path / "third").mkdir()
    for i in (0, 40, 50, 51):  # a copy of an own face, one of a face in `more`, and two others
        picture(i).save(tmp_path / "third" / f"{i}_0_0_{i:017}.png")
    faces = dataset(folder, train_on=f"{folder / 'more'},{tmp_path / 'third'}")
    for split in ("val", "test"):
        assert names(faces, split) == names(alone, split)
    third = {file for file in faces.prepared.file[faces.indices("train")] if file.startswith("third/")}
    assert {file[len("third/") :].partition("_")[0] for file in third} - {"0"} == {"40", "50", "51"}
    own_in_train = any(name.startswith("0_") for name in names(alone, "train"))
    assert any(file.startswith("third/0_") for file in third) == own_in_train
    assert names(joined, "train") < names(faces, "train")


def test_excluded_files_leave_only_the_train_split(folder, alone, tmp_path):
    excluded = [sorted(names(alone, split))[0] for split in ("train", "val", "test")]
    path = tmp_path / "exclude.csv"
    path.write_text("file,reason\n" + "".join(f"{name},why\n" for name in excluded))
    faces = dataset(folder, exclude=str(path))
    assert names(alone, "train") - names(faces, "train") == {excluded[0]}
    assert names(faces, "val") == names(alone, "val") and names(faces, "test") == names(alone, "test")


def test_the_splits_csv_of_a_run_divides_the_same_images_in_the_same_way(folder, alone, joined, tmp_path):
    other = {}  # the splits with val and test exchanged
    for name, faces, fields in (("alone", alone, {}), ("joined", joined, {"train_on": str(folder / "more")})):
        (run := Workdir(tmp_path / name)).path.mkdir()
        other[name] = [{"val": "test", "test": "val"}.get(split, split) for split in faces.assignment]
        run.write_faces(faces.prepared, other[name])
        assert dataset(folder, splits=str(run.splits), **fields).assignment.tolist() == other[name]
    wider = dataset(folder, splits=str(tmp_path / "alone" / "splits.csv"), train_on=str(folder / "more"))
    assert wider.assignment.tolist() == other["joined"]
    excluded = names(alone, "train").pop()
    (tmp_path / "exclude.csv").write_text(f"file\n{excluded}\n")
    fewer = dataset(folder, splits=str(tmp_path / "alone" / "splits.csv"), exclude=str(tmp_path / "exclude.csv"))
    assert names(alone, "train") - names(fewer, "train") == {excluded}


@pytest.mark.parametrize("text, message", [("file\nnobody.png\n", "1 of the 1 files"), ("name\nx\n", "cannot be read")])
def test_an_exclusion_that_does_not_fit_is_an_error(folder, tmp_path, text, message):
    path = tmp_path / "exclude.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        dataset(folder, exclude=str(path))
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        dataset(folder, exclude=str(path))


def test_a_joined_source_without_own_images_in_training_only_names_it(folder, tmp_path):
    shutil.copytree(folder / "more", tmp_path / "own")  # two sources of one name
    faces = dataset(folder, train_on=str(tmp_path / "own"))
    held_out = {
        file.partition("/")[0] for split in ("val", "test") for file in faces.prepared.file[faces.indices(split)]
    }
    assert held_out == {"own"} and len(faces.indices("train")) > 40


def test_a_further_image_between_two_own_ones_does_not_change_their_split():
    dhash = np.random.default_rng(0).integers(0, 256, (31, 32), dtype=np.uint8)
    content = np.array([f"{i:04}" for i in range(31)])
    own = np.arange(31) < 30
    group = np.arange(31)
    alone = splits.assign(group[:30], content[:30], 0)
    train, test = (np.flatnonzero(alone == split)[0] for split in ("train", "test"))
    group[[train, test, 30]] = 99  # near both
    fields = {"group": group, "content": content, "dhash": dhash, "mirrored": np.arange(31)}
    assigned = split_exceptions.assign(own, types.SimpleNamespace(**fields), 0)
    assert assigned.tolist() == [*alone, splits.UNUSED]
