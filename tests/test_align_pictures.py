"""launch.align of pictures without labels makes a chip of every face, and says where it comes from."""

import csv
import json
import re
import shutil
import tarfile

import drawn_photos
import numpy as np
import programs
import pytest

from agegender_jax.data.decoding import decode
from agegender_jax.errors import ConfigError
from agegender_jax.photos import face_chips
from agegender_jax.run.pictures import align_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of one, two and no faces, a damaged one, and equal names in two folders."""
    root = tmp_path_factory.mktemp("photos")
    one, two = drawn_photos.face(size=96), drawn_photos.background(120, 260)
    for i in range(2):
        two = drawn_photos.paste(two, drawn_photos.face(2 + i), (70 + 120 * i, 60), 100)
    contents = {
        "a/photo.png": drawn_photos.encode(one),
        "b/photo.png": drawn_photos.encode(two),
        "b/no face.png": drawn_photos.encode(drawn_photos.background(60, 60)),
        "=cut.jpg": drawn_photos.encode(one, "JPEG")[:500],
    }
    for name, content in contents.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return root


def run(paths, out):
    summary = align_pictures.align([str(path) for path in paths], out=str(out), size=64, score=0.7)
    with open(out / "faces.csv", newline="") as file:
        return summary, list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned")
    return *run([folder], out), out


def test_every_face_has_a_chip_that_its_row_names(folder, made):
    summary, rows, out = made
    assert summary == {"schema": 1, "pictures": 4, "chips": 3, "no_face": 1, "unreadable": 1}
    assert [row["status"] for row in rows] == ["unreadable", "aligned", "no_face", "aligned", "aligned"]
    assert "truncated" in rows[0]["reason"].lower() and rows[0]["file"].endswith("/=cut.jpg") and rows[0]["chip"] == ""
    chips = [row["chip"] for row in rows if row["chip"]]
    assert len(set(chips)) == 3 and sorted(chips) == sorted(f"chips/{path.name}" for path in (out / "chips").iterdir())
    assert all(re.fullmatch(r"chips/photo-[0-9a-f]{12}-[01]\.png", name) for name in chips)
    expected = face_chips.find(decode((folder / "b" / "photo.png").read_bytes()), [64], chip_size=64)
    for row, face in zip(rows[3:], expected, strict=True):
        assert row["file"] == f"{folder}/b/photo.png"
        np.testing.assert_array_equal(decode((out / row["chip"]).read_bytes()), face.sized[64])
        np.testing.assert_allclose([float(x) for x in row["box"].split()], face.box, atol=0.01)
        assert float(row["score"]) == pytest.approx(face.score, abs=1e-4) and len(row["landmarks"].split()) == 10


def test_a_stopped_call_continues_and_a_changed_picture_is_aligned_again(folder, made, tmp_path):
    _, _, whole = made
    lines = (whole / "faces.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "align.json").write_bytes((whole / "align.json").read_bytes())
    (tmp_path / "faces.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:20])  # within the rows of the last picture
    run([folder], tmp_path)
    for name in ("faces.jsonl", "faces.csv", "summary.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert len(list((tmp_path / "chips").iterdir())) == 2  # the first picture's is not made again
    two = tmp_path / "photo.png"
    two.write_bytes((folder / "b" / "photo.png").read_bytes())
    run([two], tmp_path / "out")
    two.write_bytes((folder / "a" / "photo.png").read_bytes())
    summary, rows = run([two], tmp_path / "out")
    assert len(rows) == len(list((tmp_path / "out" / "chips").iterdir())) == summary["chips"] == 1
    shown = two.read_bytes()
    two.write_bytes(b"damaged")
    summary, (row,) = run([two], tmp_path / "out")
    assert row["status"] == "unreadable" and not list((tmp_path / "out" / "chips").iterdir()) and not summary["chips"]
    two.write_bytes(shown)
    with pytest.raises(ConfigError, match="chips from another call: size differ"):
        align_pictures.align([str(two)], out=str(tmp_path / "out"), size=96, score=0.7)


def test_another_picture_of_the_same_relative_name_is_refused(folder, tmp_path, monkeypatch):
    for place, source in (("trip1", "a"), ("trip2", "b")):
        (tmp_path / place).mkdir()
        shutil.copy(folder / source / "photo.png", tmp_path / place / "a.png")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path / "trip1")
    _, before = run(["a.png"], out)
    monkeypatch.chdir(tmp_path / "trip2")
    with pytest.raises(ConfigError, match="another picture called a.png: an earlier call ran in .*trip1"):
        run(["a.png"], out)
    monkeypatch.chdir(tmp_path)
    _, both = run(["trip1/a.png", "trip2/a.png"], out)
    assert both[:1] == before and len(both) == 4
    monkeypatch.chdir(tmp_path / "trip1")
    assert run(["a.png"], out)[1] == both


@pytest.mark.parametrize("name", ["faces.csv", "summary.json", "chips/own.png"])
def test_a_file_of_the_user_stays(name, folder, tmp_path):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    with pytest.raises(ConfigError, match="--out holds a file that this command did not write") as error:
        run([folder], tmp_path)
    assert own.read_text() == "mine" and error.value.where == str(own)


def test_archives_and_where_chips_may_lie(folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").touch()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder / "a" / "photo.png", "sub/photo.png")
    (tmp_path / "photos" / "a.tar").symlink_to(tmp_path / "a.tar")
    run([tmp_path / "photos"], tmp_path / "empty")
    assert f"WARNING: not read: {tmp_path}/photos/a.tar: an archive" in capsys.readouterr().out
    _, (row,) = run([tmp_path / "a.tar"], tmp_path / "out")
    assert row["file"] == f"{tmp_path}/a.tar/sub/photo.png" and (tmp_path / "out" / row["chip"]).exists()
    with pytest.raises(ConfigError, match="inside a folder of pictures"):
        run([folder], folder / "chips")
    assert not (folder / "chips").exists()


def test_the_command_takes_pictures_or_a_source(folder, tmp_path):
    done = programs.run("align", folder / "a", f"--out={tmp_path}", "--size=32")
    assert done.returncode == 0 and "1 chips of 1 pictures" in done.stdout, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["chips"] == 1
    programs.check(programs.run("align", folder, f"--source={folder}"), 2, "both --source and pictures")
