import os
import shutil
import tarfile
import time

import pytest
from source_files import member, write_tar

from agegender_jax import synthetic
from agegender_jax.data import fingerprint_cache, listing, prepare, sources
from agegender_jax.errors import DataError


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    synthetic.write_faces(folder, 6, seed=0, size=32)
    return folder


@pytest.fixture
def read(monkeypatch):
    """Record the calls that read a source; every file counts as settled."""
    calls = []
    whole = sources.read
    monkeypatch.setattr(sources, "read", lambda *args: calls.append(args) or whole(*args))
    monkeypatch.setattr(fingerprint_cache, "SETTLED_S", -3600.0)
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
def test_an_unchanged_source_is_not_read_again(form, faces, tmp_path, read):
    spec = form(faces)
    first, second = (prepare.prepare(spec, str(tmp_path / "cache")) for _ in range(2))
    assert len(read) == 1
    assert second.fingerprint == first.fingerprint and second.folder == first.folder
    assert second.file.tolist() == first.file.tolist() and second.name == first.name


def rewrite(faces):
    """Change a byte of a file, but neither its size nor its time of change."""
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
def test_every_change_is_detected(change, faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    time.sleep(0.02)  # beyond the file system's tick
    change(faces)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint != first.fingerprint


def test_labels_of_a_csv_are_part_of_the_fingerprint(faces, tmp_path, read):
    spec = as_csv(faces)
    assert prepare.prepare(spec, str(tmp_path / "cache")).age_text[0] == "20-29"
    time.sleep(0.02)
    (faces / "labels.csv").write_text((faces / "labels.csv").read_text().replace("20-29", "40-49"))
    assert prepare.prepare(spec, str(tmp_path / "cache")).age_text[0] == "40-49"


def test_files_changed_recently_are_read_again(faces, tmp_path, read, monkeypatch):
    monkeypatch.setattr(fingerprint_cache, "SETTLED_S", 3600.0)
    for _ in range(2):
        prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and not list((tmp_path / "cache").glob("*.stamp"))


def test_what_an_archive_leaves_out_is_known_without_reading_it_again(faces, tmp_path, read):
    spec, name = as_tar(faces), os.fsdecode(b"caf\xe9.zip")
    with tarfile.open(spec, "a") as tar:
        tar.addfile(member(name)[0])
    for _ in range(2):
        prepared = prepare.prepare(spec, str(tmp_path / "cache"))
        assert prepared.left_out == [(name, "an archive in an archive, not read")]
    assert len(read) == 1 and "in the source, unpacked if it is in an archive" in prepared.warning()


def test_a_changed_archive_is_read(faces, tmp_path, read):
    spec = as_tar(faces)
    first = prepare.prepare(spec, str(tmp_path / "cache"))
    remove(faces)
    time.sleep(0.02)
    as_tar(faces)
    assert prepare.prepare(spec, str(tmp_path / "cache")).fingerprint != first.fingerprint


def test_a_change_in_the_second_of_two_joined_sources_is_detected(faces, tmp_path, read):
    spec = as_joined(faces)
    first = prepare.prepare(spec, str(tmp_path / "cache"))
    time.sleep(0.02)
    rewrite(faces.with_name("others"))
    assert prepare.prepare(spec, str(tmp_path / "cache")).fingerprint != first.fingerprint


def test_the_target_of_a_link_is_part_of_the_fingerprint(faces, tmp_path, read):
    (faces / "deep").mkdir()
    path = min(faces.glob("*.jpg"))
    path.rename(faces / "deep" / "target")  # no image by its name
    path.symlink_to(faces / "deep" / "target")
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert prepare.prepare(str(faces), str(tmp_path / "cache")) and len(read) == 1
    time.sleep(0.02)
    rewrite(faces / "deep")
    assert prepare.prepare(str(faces), str(tmp_path / "cache")).fingerprint != first.fingerprint


def test_a_file_that_could_not_be_read_is_tried_again(faces, tmp_path, read, monkeypatch):
    whole = listing._read_file

    def read_but_one(path):
        if path.endswith(max(faces.iterdir()).name):
            raise listing.Unreadable("cannot be read: Input/output error")
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(listing, "_read_file", read_but_one)
        result = prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=0.5)
    assert [reason for _, reason in result.bad] == ["cannot be read: Input/output error"]
    assert len(prepare.prepare(str(faces), str(tmp_path / "cache")).file) == 6


def test_a_change_during_reading_is_detected(faces, tmp_path, read, monkeypatch):
    whole = sources.read

    def add_and_read(*args):
        monkeypatch.setattr(sources, "read", whole)
        add(faces)
        return whole(*args)

    monkeypatch.setattr(sources, "read", add_and_read)
    assert len(prepare.prepare(str(faces), str(tmp_path / "cache")).file) == 7
    (faces / "7_1_1_20170101000000000.jpg").unlink()
    assert len(prepare.prepare(str(faces), str(tmp_path / "cache")).file) == 6


def test_a_source_that_disappears_after_reading_is_used(faces, tmp_path, read, monkeypatch):
    whole = sources.read

    def read_and_remove(*args):
        items = list(whole(*args))
        shutil.rmtree(faces)
        return items

    monkeypatch.setattr(sources, "read", read_and_remove)
    assert len(prepare.prepare(str(faces), str(tmp_path / "cache")).file) == 6
    assert not list((tmp_path / "cache").glob("*.stamp"))


def test_bad_files_are_refused_without_reading_again(faces, tmp_path, read):
    (faces / "30_0_0_20170101000000000.jpg").write_bytes(b"nothing")
    reported = []
    assert len(prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=0.5).bad) == 1
    with pytest.raises(DataError, match="1 of 7 files are unusable"):
        prepare.prepare(str(faces), str(tmp_path / "cache"), on_bad=lambda bad: reported.append(bad) or "list.csv")
    assert len(read) == 1 and [[file for file, _ in bad] for bad in reported] == [["30_0_0_20170101000000000.jpg"]]


@pytest.fixture
def labelled(faces):
    """Return a function that gives the first image of a source with a CSV another row, None for none."""
    first, *others = sorted(faces.iterdir())
    first.rename(faces / "11.png")

    def write(row):
        time.sleep(0.02)
        rows = "".join(f"{path.name},20-29,Male,White\n" for path in others)
        (faces / "labels.csv").write_text(f"file,age,gender,race\n{rows}" + (f"11.png,{row}\n" if row else ""))

    return write


CHANGED_ROWS = (("19-Oct,Male,White", "date or number"), ("20-29,Malle,White", "'Malle'"), (None, "1 of the 4 parts"))


@pytest.mark.parametrize("settled_s", [-3600.0, 3600.0])
def test_the_reasons_of_unusable_files_are_those_of_today(settled_s, faces, labelled, tmp_path, read, monkeypatch):
    monkeypatch.setattr(fingerprint_cache, "SETTLED_S", settled_s)
    fingerprints, arguments = set(), (str(faces), str(tmp_path / "cache"))
    for row, reason in CHANGED_ROWS:
        labelled(row)
        for _ in range(2):
            prepared = prepare.prepare(*arguments, max_bad=1)
            assert [file for file, _ in prepared.bad] == ["11.png"] and reason in prepared.bad[0][1]
            fingerprints.add(prepared.fingerprint)
            with pytest.raises(DataError) as caught:
                prepare.prepare(*arguments)
            assert reason in caught.value.what and ("a spreadsheet" in caught.value.what) == (row == CHANGED_ROWS[0][0])
    assert len(fingerprints) == 1 and len(read) == (3 if settled_s < 0 else 12)
    labelled("20-29,Male,White")
    assert not prepare.prepare(*arguments).bad


def test_sources_that_share_prepared_data_have_their_own_reasons(faces, labelled, tmp_path, read):
    labelled(CHANGED_ROWS[0][0])
    shutil.copytree(faces, faces.with_name("others"))
    labelled(CHANGED_ROWS[1][0])
    (faces / "12.png").write_bytes(b"not an image")
    (faces.with_name("others") / "12.png").write_bytes(b"not an image")
    for _ in range(2):
        for name, (_, reason) in zip(("others", "faces"), CHANGED_ROWS, strict=False):
            prepared = prepare.prepare(str(faces.with_name(name)), str(tmp_path / "cache"), max_bad=1)
            assert reason in dict(prepared.bad)["11.png"]
    assert len(read) == 2 and len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_reasons_of_files_that_cannot_be_decoded_are_kept(faces, tmp_path, read, monkeypatch):
    name, empty = "7_1_1_20170101000000000.jpg", "8_1_1_20170101000000000.jpg"
    (faces / name).write_bytes(b"not an image")
    (faces / empty).write_bytes(b"")
    (faces / "labels.csv").write_text(f"file,age,gender,race\n{empty},20-29,Malle,White\n")
    first = prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=1)
    assert [file for file, _ in first.bad] == [name, empty] and "'Malle'" in first.bad[1][1]
    (faces / "labels.csv").unlink()
    second = prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=1)
    assert second.bad == [first.bad[0], (empty, "empty file")] and second.fingerprint == first.fingerprint


@pytest.mark.parametrize("text", [None, b"", b"\xff", b"{}", b'{"unusable": [["a"]]}', "a bit"])
def test_a_missing_or_damaged_list_of_unusable_files_is_made_again(text, faces, tmp_path, read):
    (faces / "30_0_0_20170101000000000.jpg").write_bytes(b"nothing")
    first = prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=0.5)
    (path,) = (tmp_path / "cache").glob("*.unusable.json")
    good = path.read_bytes()
    if text is None:
        path.unlink()
    else:
        path.write_bytes(good.replace(b"not a", b"not b") if text == "a bit" else text)
    again = prepare.prepare(str(faces), str(tmp_path / "cache"), max_bad=0.5)
    assert again.bad == first.bad and path.read_bytes() == good and len(read) == 2


def test_the_order_of_a_folder_does_not_matter(faces, tmp_path, read, monkeypatch):
    prepare.prepare(str(faces), str(tmp_path / "cache"))
    list_folder = listing.list_folder
    monkeypatch.setattr(listing, "list_folder", lambda root: list_folder(root)[::-1])
    prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 1


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"../../elsewhere", b"1" * 64, b'{"left_out": [], "fingerprint": "../elsewhere"}']
)
def test_an_invalid_stamp_is_ignored(text, faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    (stamp,) = (tmp_path / "cache").glob("*.stamp")
    stamp.write_bytes(text)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint == first.fingerprint
    assert fingerprint_cache.read(stamp) == (first.fingerprint, [])


def test_missing_data_are_prepared_again(faces, tmp_path, read):
    first = prepare.prepare(str(faces), str(tmp_path / "cache"))
    shutil.rmtree(first.folder)
    second = prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert len(read) == 2 and second.fingerprint == first.fingerprint and second.folder.is_dir()
