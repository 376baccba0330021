import os
import shutil
import time

import pytest
from source_files import member, write_tar

from agegender_jax.data import prepare, sources, stamps, synthetic


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    synthetic.write_faces(folder, 6, seed=0, size=32)
    return folder


@pytest.fixture
def read(monkeypatch):
    """Counts how often a source is read; every file counts as settled."""
    calls = []
    whole = sources.read
    monkeypatch.setattr(sources, "read", lambda *args: calls.append(args) or whole(*args))
    monkeypatch.setattr(stamps, "SETTLED_S", -3600.0)
    return calls


def as_tar(faces):
    return write_tar(faces.with_suffix(".tar"), [member(p.name, p.read_bytes()) for p in sorted(faces.iterdir())])


def as_csv(faces):
    rows = "".join(f"{path.name},20-29,Male,White\n" for path in sorted(faces.iterdir()))
    (faces / "labels.csv").write_text(f"file,age,gender,race\n{rows}")
    return str(faces / "labels.csv")


def as_joined(faces):
    shutil.copytree(faces, faces.with_name("others"))
    return f"{faces},{faces.with_name('others')}"


@pytest.mark.parametrize("form", [str, as_tar, as_csv, as_joined])
def test_a_source_that_did_not_change_is_not_read_again(form, faces, tmp_path, read):
    spec = form(faces)
    first, second = (prepare.prepare(spec, str(tmp_path / "cache")) for _ in range(2))
    assert len(read) == 1
    assert second.fingerprint == first.fingerprint and second.folder == first.folder
    assert second.file.tolist() == first.file.tolist() and second.name == first.name


def rewrite(faces):
    """Another byte in a file whose size and time of change stay."""
    path = min(faces.iterdir())
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename(faces):
    path = min(faces.iterdir())
    path.rename(path.with_name(f"33{path.name[path.name.index('_') :]}"))


def remove(faces):
    min(faces.iterdir()).unlink()


def add(faces):
    shutil.copy(min(faces.iterdir()), faces / "7_1_1_20170101000000000.jpg")


def replace_by_link(faces):
    path = min(faces.iterdir())
    path.unlink()
    path.symlink_to(max(faces.iterdir()))


@pytest.mark.parametrize("change", [rewrite, rename, remove, add, replace_by_link])
def test_every_change_is_seen(change, faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    time.sleep(0.02)  # beyond the file system's tick
    change(faces)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint != first.fingerprint


def test_labels_of_a_csv_are_part_of_it(faces, tmp_path, read):
    spec = as_csv(faces)
    assert prepare.prepare(spec, str(tmp_path / "cache")).age_text[0] == "20-29"
    time.sleep(0.02)
    (faces / "labels.csv").write_text((faces / "labels.csv").read_text().replace("20-29", "40-49"))
    assert prepare.prepare(spec, str(tmp_path / "cache")).age_text[0] == "40-49"


def test_young_files_are_read_again(faces, tmp_path, read, monkeypatch):
    monkeypatch.setattr(stamps, "SETTLED_S", 3600.0)
    for _ in range(2):
        prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and not list((tmp_path / "cache").glob("*.seen"))


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"../../elsewhere", b"0" * 64])
def test_a_note_that_says_nothing_costs_a_reading(text, faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    (note,) = (tmp_path / "cache").glob("*.seen")
    note.write_bytes(text)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint == first.fingerprint == note.read_text()


def test_prepared_data_that_are_gone_are_made_again(faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    shutil.rmtree(first.folder)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint == first.fingerprint and second.folder.is_dir()
