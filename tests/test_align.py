"""launch.align makes a data source of aligned chips with the labels of the pictures."""

import json
import shutil
import tarfile

import drawn_photos
import numpy as np
import pytest
from source_files import pack

from agegender_jax import synthetic
from agegender_jax.data import sources
from agegender_jax.data.decoding import decode
from agegender_jax.errors import ConfigError
from agegender_jax.photos import alignment, detector
from agegender_jax.run.align import align, middle_face


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Six drawn faces with UTKFace's names, one picture without a face, one damaged file."""
    folder = tmp_path_factory.mktemp("faces")
    synthetic.write_faces(folder, 6, seed=0, size=96)
    (folder / "30_1_0_20170101000000000.jpg").write_bytes(drawn_photos.encode(drawn_photos.background(96, 96), "JPEG"))
    (folder / "31_1_0_20170101000000000.jpg").write_bytes(b"no picture")
    return folder


def test_chips_are_a_source_with_the_same_labels(source, tmp_path):
    summary = align(str(source), out=str(tmp_path / "out"), size=64, score=0.7)
    assert summary == {"schema": 1, "pictures": 8, "aligned": 6, "no_face": 1, "unreadable": 1}
    before = {item.file.partition(".")[0]: item for item in sources.read(str(source)) if item.data}
    after = {item.file.partition(".")[0]: item for item in sources.read(str(tmp_path / "out"))}
    assert len(after) == 6 and all(after[name].label == before[name].label for name in after)
    name = next(iter(after))
    image = decode(before[name].data)
    chip = alignment.chip(image, alignment.align(image, detector.detect(image)[0]), 64)
    np.testing.assert_array_equal(decode(after[name].data), chip)  # what a Predictor cuts out of the same picture


def test_labels_of_a_csv_are_written_and_an_interrupted_call_resumes(source, tmp_path):
    files = sorted(source.glob("*.chip.jpg"))
    fairface = tmp_path / "fairface"
    (fairface / "train").mkdir(parents=True)
    ages = ("0-2", "20-29", "more than 70")
    lines = ["file,age,gender,race,service_test"]
    for i, age in enumerate(ages):
        (fairface / "train" / f"{i}.jpg").write_bytes(files[i].read_bytes())
        lines.append(f"train/{i}.jpg,{age},Female,East Asian,True")
    (fairface / "labels.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    align(str(fairface), out=str(out), size=64, score=0.7)
    labels = [item.label for item in sources.read(str(out))]
    assert [label.age_text for label in labels] == list(ages)
    assert [label.race_text for label in labels] == ["East Asian"] * 3 and labels[2].age_last == 11
    written = (out / "labels.csv").read_bytes()
    rows = (out / "faces.jsonl").read_bytes()
    (out / "faces.jsonl").write_bytes(rows[: len(rows) - 30])
    (out / "labels.csv").unlink()
    first = json.loads(rows.splitlines()[0])["chip"]
    (out / first).write_bytes(b"")  # is not made again
    align(str(fairface), out=str(out), size=64, score=0.7)
    assert (out / "faces.jsonl").read_bytes() == rows and (out / "labels.csv").read_bytes() == written
    assert (out / first).read_bytes() == b""
    with pytest.raises(ConfigError, match="chips from another call: size differ"):
        align(str(fairface), out=str(out), size=96, score=0.7)


def test_changed_pictures_are_aligned_again_and_another_source_is_refused(source, tmp_path):
    old, new = tmp_path / "old" / "faces", tmp_path / "new" / "faces"
    old.mkdir(parents=True)
    first, second, third = sorted(source.glob("*.chip.jpg"))[:3]
    for path in (first, second):
        shutil.copy(path, old)
    out = tmp_path / "out"
    align(str(old), out=str(out), size=64, score=0.7)
    same, chip = ((out / path.name).with_suffix(".png") for path in (first, second))
    before = chip.read_bytes()
    same.write_bytes(b"")  # is not made again
    shutil.copy(third, old / second.name)
    assert align(str(old), out=str(out), size=64, score=0.7)["pictures"] == 2
    assert chip.read_bytes() != before and same.read_bytes() == b""
    shutil.copy(source / "30_1_0_20170101000000000.jpg", old / second.name)  # without a face
    assert align(str(old), out=str(out), size=64, score=0.7) == {
        "schema": 1,
        "pictures": 2,
        "aligned": 1,
        "no_face": 1,
        "unreadable": 0,
    }
    assert not chip.exists() and len(list(out.glob("*.png"))) == 1
    shutil.copytree(old, new)
    with pytest.raises(ConfigError, match=r"chips of .*/old/faces, not of .*/new/faces") as caught:
        align(str(new), out=str(out), size=64, score=0.7)
    assert "align.json" in caught.value.fix
    settings = json.loads((out / "align.json").read_text())
    (out / "align.json").write_text(json.dumps(settings | {"paths": [str(new)]}))
    assert align(str(new), out=str(out), size=64, score=0.7)["pictures"] == 2
    del settings["paths"]  # as version 0.2.0 wrote it
    (out / "align.json").write_text(json.dumps(settings))
    assert align(str(old), out=str(out), size=64, score=0.7)["pictures"] == 2


def two_aligned(source, path):
    """Align two faces; return their folder, that of their chips, and both paths in `source`."""
    folder, out = path / "faces", path / "out"
    folder.mkdir()
    first, second = sorted(source.glob("*.chip.jpg"))[:2]
    for face in (first, second):
        shutil.copy(face, folder)
    align(str(folder), out=str(out), size=64, score=0.7)
    return folder, out, first, second


def test_chips_of_pictures_that_the_source_no_longer_has_are_removed(source, tmp_path):
    folder, out, first, second = two_aligned(source, tmp_path)
    chip = (out / second.name).with_suffix(".png")
    content = chip.read_bytes()
    (folder / second.name).rename(folder / "1_0_0_20170101.jpg")
    assert align(str(folder), out=str(out), size=64, score=0.7)["pictures"] == 2
    names = sorted(item.file for item in sources.read(str(out)))
    assert names == sorted(["1_0_0_20170101.png", (out / first.name).with_suffix(".png").name])
    (folder / "1_0_0_20170101.jpg").rename(folder / second.name)  # back again
    assert align(str(folder), out=str(out), size=64, score=0.7)["aligned"] == 2
    assert chip.read_bytes() == content and len(list(out.glob("*.png"))) == 2


def test_what_an_interruption_or_damage_left_is_put_right(source, tmp_path):
    folder, out, first, second = two_aligned(source, tmp_path)
    rows = (out / "faces.jsonl").read_bytes().splitlines(keepends=True)
    chip = (out / first.name).with_suffix(".png")
    before = chip.read_bytes()
    chip.unlink()
    (out / "faces.jsonl").write_bytes(b"\x00\x00\n" + rows[1])
    assert align(str(folder), out=str(out), size=64, score=0.7)["aligned"] == 2 and chip.read_bytes() == before
    (out / "faces.jsonl").write_bytes(rows[1])  # the other row was not written any more
    shutil.copy(source / "30_1_0_20170101000000000.jpg", folder / first.name)  # without a face
    assert align(str(folder), out=str(out), size=64, score=0.7)["no_face"] == 1 and not chip.exists()


def test_a_member_that_a_later_one_replaces_does_not_count(source, tmp_path):
    first, second = sorted(source.glob("*.chip.jpg"))[:2]
    (tmp_path / "faces").mkdir()
    shutil.copy(first, tmp_path / "faces")
    packed = pack(tmp_path / "faces", tmp_path / "packed.tar")
    with tarfile.open(packed, "a") as archive:
        archive.add(second, first.name)
    for _ in range(3):
        assert align(str(packed), out=str(tmp_path / "out"), size=64, score=0.7)["aligned"] == 1
        (item,) = sources.read(str(tmp_path / "out"))
        image = decode(second.read_bytes())
        chip = alignment.chip(image, alignment.align(image, detector.detect(image)[0]), 64)
        np.testing.assert_array_equal(decode(item.data), chip)


def test_a_file_of_the_user_stays(source, tmp_path):
    """A chip that would replace it, a picture without a face whose chip would be removed, a table, or any picture."""
    with_face, without = min(source.glob("*.chip.jpg")).stem + ".png", "30_1_0_20170101000000000.png"
    for i, name in enumerate((with_face, without, "labels.csv", "faces.jsonl", "deep/other.png")):
        own = tmp_path / f"out{i}" / name
        own.parent.mkdir(parents=True)
        own.write_text("mine")
        with pytest.raises(ConfigError, match="--out holds a file that this command did not write"):
            align(str(source), out=str(tmp_path / f"out{i}"), size=64, score=0.7)
        assert own.read_text() == "mine" and [path for path in own.parent.iterdir() if path.name != ".lock"] == [own]


@pytest.mark.parametrize("kind", ["csv", "tar", "rows"])
def test_nothing_outside_the_folder_is_removed(kind, source, tmp_path):
    """A CSV, an archive or an edited faces.jsonl names a path that leads to a file beside `out`."""
    out, folder = tmp_path / "a" / "out", tmp_path / "a" / "faces"
    victim = tmp_path / "a" / "keep" / "0001.png"
    for made in (victim.parent, folder):
        made.mkdir(parents=True)
    victim.write_bytes(b"mine")
    name = "20_0_0_20170101.jpg"
    shutil.copy(min(source.glob("*.chip.jpg")), folder / name)
    text = str(folder)
    if kind == "csv":
        lines = ["file,age,gender,race", "../keep/0001.png,20-29,Male,White", f"{name},20-29,Male,White"]
        (folder / "labels.csv").write_text("\n".join(lines))
    elif kind == "tar":
        text = str(pack(folder, tmp_path / "packed.tar"))
        with tarfile.open(text, "a") as archive:
            archive.addfile(tarfile.TarInfo("../keep/0001.png"))
    else:
        align(text, out=str(out), size=64, score=0.7)
        row = json.loads((out / "faces.jsonl").read_text())
        (out / "faces.jsonl").write_text(json.dumps(row | {"chip": "../keep/0001.png", "file": "gone.jpg"}) + "\n")
    assert align(text, out=str(out), size=64, score=0.7)["aligned"] == 1
    assert victim.read_bytes() == b"mine" and sorted(path.name for path in victim.parent.iterdir()) == ["0001.png"]


def test_a_name_that_a_spreadsheet_would_evaluate_keeps_its_label(source, tmp_path):
    folder = tmp_path / "fairface"
    folder.mkdir()
    shutil.copy(min(source.glob("*.chip.jpg")), folder / "=a.jpg")
    (folder / "labels.csv").write_text("file,age,gender,race\n=a.jpg,20-29,Female,White\n")
    align(str(folder), out=str(tmp_path / "out"), size=64, score=0.7)
    assert "\n'=a.png," in (tmp_path / "out" / "labels.csv").read_text()
    (item,) = sources.read(str(tmp_path / "out"))
    assert item.file == "=a.png" and item.label.age_text == "20-29"


def test_what_is_left_out_of_a_source_is_named(source, tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    shutil.copy(min(source.glob("*.chip.jpg")), folder)
    (folder / "more.zip").write_bytes(b"")
    (folder / "elsewhere").symlink_to(tmp_path)
    packed = pack(folder, tmp_path / "packed.tar")
    align(f"{folder},{packed}", out=str(tmp_path / "out"), size=32, score=0.7)
    of_folder, of_archive = (line for line in capsys.readouterr().out.splitlines() if "is left out" in line)
    assert f"elsewhere: a link to the folder {tmp_path}, not followed; more.zip: an archive in a folder" in of_folder
    assert f"elsewhere: a link to {tmp_path}, not followed; more.zip: an archive in an archive" in of_archive
    assert of_archive.startswith("WARNING: ") and "name it after a comma in the source" in of_archive


def test_names_that_differ_by_their_suffix_have_chips_of_their_own(source, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    first, second = sorted(source.glob("*.chip.jpg"))[:2]
    (folder / "20_0_0_20170101.jpg").write_bytes(first.read_bytes())
    (folder / "20_0_0_20170101.png").write_bytes(drawn_photos.encode(decode(second.read_bytes())))
    align(str(folder), out=str(tmp_path / "out"), size=64, score=0.7)
    items = list(sources.read(str(tmp_path / "out")))
    assert [item.file for item in items] == ["20_0_0_20170101.png", "20_0_0_20170101.png.png"]
    assert items[0].data != items[1].data and items[1].label.age_years == 20


def test_the_face_in_the_middle_is_the_labelled_one():
    def at(x, side, y=20.0):
        return detector.Detection((x, y, side, side), np.zeros((5, 2)), 0.9)

    image = np.zeros((100, 100, 3), np.uint8)
    middle, beside, small = at(30.0, 40.0), at(0.0, 60.0), at(45.0, 10.0, 45.0)
    assert middle_face(image, [beside, small, middle]) is middle and middle_face(image, []) is None
