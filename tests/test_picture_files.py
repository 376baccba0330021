"""What the arguments of agegender predict name, and where its results may be written; nothing is predicted."""

import errno
import io
import json
import os
import pwd
import sys

import pytest
from PIL import Image
from source_files import pack

from agegender_jax import files
from agegender_jax.data.listing import Unreadable
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.photos.face_chips import Chip
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run import predict
from agegender_jax.run.explanations import explained_photos
from agegender_jax.run.pictures import align_pictures, jsonl_csv_rows
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.pictures.picture_files import check_outside, find, not_read, open_pictures, read_boxes
from agegender_jax.run.workdir import keep_settings


@pytest.mark.parametrize(
    "box",
    ["[0, 0, 5, NaN]", "[NaN, 0, 5, 5]", "[0, 0, Infinity, 5]", "[0, 0, 0.1, 5]", "[1e300, 0, 9, 9]"],
)
def test_impossible_boxes_are_refused(box, tmp_path):
    (tmp_path / "boxes.json").write_text(f'{{"a.jpg": [{box}]}}')
    with pytest.raises(ConfigError, match="a box is not"):
        read_boxes(str(tmp_path / "boxes.json"))


def test_a_box_that_no_float_holds_is_refused(tmp_path):
    (tmp_path / "boxes.json").write_text(f'{{"a.jpg": [[0, 0, {10**400}, 9]]}}')
    with pytest.raises(ConfigError, match="int too large"):
        read_boxes(str(tmp_path / "boxes.json"))


@pytest.mark.parametrize("text", ["[[1, 2, 3, 4]]", '{"a.jpg": [1, 2, 3, 4]}', '{"a.jpg": null}'])
def test_boxes_of_another_form_are_refused(text, tmp_path):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ConfigError, match="not an object with a list of boxes for each picture"):
        read_boxes(str(tmp_path / "boxes.json"))


def test_lists_on_stdin(monkeypatch):
    def named(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        with open_pictures(["-"]) as pictures:
            return [picture.name for picture in pictures]

    assert named(b"\xef\xbb\xbfa.png\r\n\r\n\nb c.png") == ["a.png", "b c.png"]
    assert named(b"a\nb.png\0\0c.png") == ["a\nb.png", "c.png"]
    for empty in (b"", b"\r\n\n", b"\0"):
        with pytest.raises(DataError, match="names no picture"):
            named(empty)


def test_a_glob_matches_files_and_names_the_folders_that_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub" / "deep").mkdir()
    (tmp_path / "sub" / "deep" / "c.png").touch()
    everything = ["a.png", "sub/b.png", "sub/deep/c.png"]
    for pattern, names, folders in (
        ("*", ["a.png"], ["sub"]),
        ("**/*", everything, []),
        ("**/sub/*", ["sub/b.png"], ["sub/deep"]),
    ):
        left_out = []
        with open_pictures([pattern], left_out) as pictures:
            assert [picture.name for picture in pictures] == names
        assert left_out == [(folder, "a folder that a glob matches") for folder in folders]


def test_parts_of_a_folder_that_are_not_read(tmp_path, monkeypatch):
    (tmp_path / "photos" / "lost+found").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    (tmp_path / "photos" / "b.zip").write_bytes(b"")
    (tmp_path / "photos" / "elsewhere").symlink_to("/")
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    left_out = []
    with open_pictures([str(tmp_path / "photos")], left_out) as (first, second):
        assert (first.entry.reason, os.path.basename(second.name)) == (None, "lost+found")
        with pytest.raises(Unreadable, match="a folder that cannot be read: Permission denied"):
            second.source()()
    note = not_read(left_out)
    assert f"{tmp_path}/photos/b.zip: an archive in a folder" in note and "a link to the folder /, not" in note
    with pytest.raises(DataError, match=r"a folder cannot be read: Permission[\s\S]*lost\+found"):
        explained_photos.read([str(tmp_path / "photos")], lambda image: [])


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_parts_of_an_archive_that_are_not_read(form, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    (tmp_path / "photos" / "b.zip").write_bytes(b"")
    (tmp_path / "photos" / "elsewhere").symlink_to("/")
    packed, out = pack(tmp_path / "photos", tmp_path / f"packed.{form}"), tmp_path / "out"
    out.write_bytes(b"")  # the commands end with an error about it
    monkeypatch.setattr(predict, "Predictor", lambda *args, **kwargs: None)
    for command in (
        lambda: align_pictures.align([packed], out=str(out), size=32, score=0.7),
        lambda: predict.predict([packed], workdirs=[], out=str(out)),
    ):
        with pytest.raises(ConfigError, match=str(out)):
            command()
        shown = capsys.readouterr().out
        assert f"{packed}/b.zip: an archive in an archive, not read; {packed}/elsewhere: a link to /, not f" in shown


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="an empty path is named"), open_pictures([""]):
        pass
    with pytest.raises(ConfigError, match="an empty path is named"):
        align_pictures.align([sys.executable], out="", size=32, score=0.7)
    assert not list(tmp_path.iterdir())


def test_a_name_that_begins_with_a_tilde_is_that_of_an_existing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~photo.png", "~folder/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    pack(tmp_path / "~folder", tmp_path / "~packed.zip")
    for argument, name in (
        ("~photo.png", "~photo.png"),
        ("~ph*.png", "~photo.png"),
        ("*.png", "~photo.png"),
        ("~folder", "~folder/a.png"),
        ("~folder/**", "~folder/a.png"),
        ("~packed.zip", "~packed.zip/a.png"),
    ):
        with open_pictures([argument]) as (picture,):
            source = picture.source()
            assert picture.name == name and (source if isinstance(source, bytes) else source())[1:4] == b"PNG"
            found = [file.name for file in find({name: picture.state}, [])]  # as for a picture of an earlier call
            assert found == ([] if argument == "~packed.zip" else [name])
        check_outside(tmp_path / "out", [argument], "chips")
    for argument in ("~folder", "~folder/**"):
        with pytest.raises(ConfigError, match="--out is inside a folder of pictures"):
            check_outside(tmp_path / "~folder" / "out", [argument], "chips")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"~photo.png\n")))
    with open_pictures(["-"]) as (listed,):
        assert listed.source()()[1:4] == b"PNG"
    (tmp_path / "~boxes.json").write_text('{"~photo.png": [[0, 0, 8, 8]]}')
    assert read_boxes("~boxes.json") == {"~photo.png": [[0, 0, 8, 8]]}
    chip = Chip((0, 0, 8, 8), None, None, [], {})
    photos, _ = explained_photos.read(["~photo.png", "~folder"], lambda image: [chip])
    assert [photo.fields["file"] for photo in photos] == ["~photo.png", "~folder/a.png"]


def test_a_glob_that_matches_what_is_written_is_refused(tmp_path, monkeypatch):
    """The next call would read the chips of this one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ph" / "day").mkdir(parents=True)
    for argument in ("ph/*/*.png", "*/*/*.png", "p?/ch*/*.png", str(tmp_path / "ph" / "*" / "*")):
        with pytest.raises(ConfigError, match="inside a folder of pictures"):
            check_outside(tmp_path / "ph", [argument], "chips")
    for argument in ("ph/*.png", "ph/*/*/*.png", "ph/d*/*.png", "other/*/*.png"):
        check_outside(tmp_path / "ph", [argument], "chips")


def test_a_tilde_is_the_home_folder_otherwise(tmp_path, monkeypatch):
    def no_entry(*args):
        raise KeyError(args)

    monkeypatch.setattr(pwd, "getpwnam", no_entry)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.png").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for argument in ("~/a.png", "~", "~/*.png", "~/**"):
        with open_pictures([argument]) as (picture,):
            assert picture.name.endswith("/a.png") and picture.source()() == b""
    with pytest.raises(ConfigError, match="inside a folder of pictures"):
        check_outside(tmp_path / "home" / "out", ["~/**/*.png"], "chips")
    with pytest.raises(ConfigError, match="the home folder of ~nobody.png is not known"):
        open_pictures(["~nobody.png"]).__enter__()


def test_a_circle_of_links_is_refused(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for path in ("circle", "circle/below"):
        with pytest.raises(ConfigError, match="links lead in a circle"):
            files.resolve(tmp_path / path, "--out")
    assert files.resolve(tmp_path / "new" / "folder", "--out") == tmp_path / "new" / "folder"
    with pytest.raises(ConfigError, match="links lead in a circle"):
        Predictor(tmp_path / "circle")


def test_results_of_another_command_and_damaged_settings(tmp_path):
    (tmp_path / "predict.json").write_text("{damaged")
    with pytest.raises(ConfigError, match="predict.json in --out is damaged"):
        keep_settings(tmp_path / "predict.json", {"schema": 1}, "answers")
    with pytest.raises(ConfigError, match=r"results of another command[\s\S]*predict.json"):
        keep_settings(tmp_path / "align.json", {"schema": 1}, "chips")


def test_settings_that_earlier_versions_did_not_write_are_taken_to_be_the_same(tmp_path):
    path, now = tmp_path / "predict.json", {"schema": 1, "temperatures": [1.5]}
    path.write_text('{"schema": 1}')
    with pytest.raises(ConfigError, match="temperatures differ"):
        keep_settings(path, now, "answers")
    assert not keep_settings(path, now, "answers", added=("temperatures",)) and json.loads(path.read_text()) == now
    with pytest.raises(ConfigError, match="temperatures differ"):
        keep_settings(path, now | {"temperatures": [2.0]}, "answers", added=("temperatures",))


def test_a_damaged_line_loses_its_own_picture_only(tmp_path):
    """The rows of the pictures after it stay; a call predicts the damaged one again."""
    rows = {"a": [{"file": "a", "faces": 2}] * 2, "b": [{"file": "b", "faces": 0}], "c": [{"file": "c", "faces": 1}]}
    for damaged in range(4):
        states = dict.fromkeys(rows)
        with RowFiles(tmp_path, "rows", ("file", "faces"), states) as written:
            for name in rows.keys() - written.done:
                written.write(rows[name])
        lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) == 4
        lost = json.loads(lines[damaged])["file"]
        lines[damaged] = b"\x00\xff\n"
        (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
        with RowFiles(tmp_path, "rows", ("file", "faces"), states) as written:
            assert written.done == rows.keys() - {lost}
        kept = [row["file"] for row in jsonl_csv_rows.read(tmp_path / "rows.jsonl")]
        assert sorted(kept) == sorted(row["file"] for name in written.done for row in rows[name])


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    with RowFiles(tmp_path, "rows", ["file"], {}) as rows:
        monkeypatch.setattr(files, "to_json", lambda row: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError) as raised:
            rows.write([{"file": "a.png"}])
    assert raised.value.filename == str(tmp_path / "rows.jsonl")


def test_a_list_on_a_closed_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="stdin is closed"), open_pictures(["-"]):
        pass


def test_rows_are_on_disk_before_they_replace_earlier_ones(tmp_path, monkeypatch):
    """A repeated call writes the only copy of the rows again."""
    row, replace = {"file": "a", "faces": 0}, os.replace
    for seen in ([], ["synced", "replaced", "synced"]):
        calls = []
        monkeypatch.setattr(os, "fsync", lambda file, calls=calls: calls.append("synced"))
        monkeypatch.setattr(os, "replace", lambda *names, calls=calls: (calls.append("replaced"), replace(*names)))
        with RowFiles(tmp_path, "rows", ("file", "faces"), {"a": None}) as rows:
            before_csv = calls[: len(seen)]
            if not rows.done:
                rows.write([row])
        monkeypatch.undo()
        assert before_csv == seen
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == row | {"state": None}
