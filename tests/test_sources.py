import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import programs
import pytest
from source_files import DATE, FACES, FORMS, pack, reasons, write

from agegender_jax.data import listing, sources
from agegender_jax.errors import DataError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", ["", "UTKFace/", "./a/b/"])
def test_every_form_has_the_same_items(form, prefix, tmp_path):
    hidden = [f"__MACOSX/._{DATE}", f"__MACOSX/1_0_0_{DATE}", f".trash/1_0_0_{DATE}"]
    others = dict.fromkeys(["README.txt", "notes/list.csv", *hidden], b"a,b\n1,2\n")
    spec = write(form, tmp_path, others | {prefix + name: data for name, data in FACES.items()})
    items = list(sources.read(spec))
    assert [item.file for item in items] == sorted(FACES)
    for item in items:
        assert item.data == FACES[item.file] and item.reason is None
        assert item.label.age_years == int(item.file.split("_")[0])
        assert item.label.age_first == item.label.age_last == item.label.age_years // 10


@pytest.mark.parametrize("form", FORMS)
def test_folders_that_differ_stay_in_the_name(form, tmp_path):
    names = [f"all/b/2_0_0_{DATE}", f"all/a/x/1_0_0_{DATE}", "all/b/z.jpg"]
    spec = write(form, tmp_path, dict.fromkeys(names, b""))
    assert reasons(spec) == {
        f"a/x/1_0_0_{DATE}": None,
        f"b/2_0_0_{DATE}": None,
        "b/z.jpg": "name has 1 of the 4 parts age_gender_race_date",
    }


def test_only_image_names_count():
    yes = ["a.jpg", "a.JPEG", "a.png", "a.webp", "a.bmp", "a.gif", "a.tiff", "a.jpg "]
    yes.append("b/55_0_0_20170116232725357jpg")
    no = ["a.txt", "a", "jpg", "ajpg", "a.jpg.part", "a.jpg/b.txt", "a.csv", "a.7jpg"]
    assert all(map(listing.is_image, yes)) and not any(map(listing.is_image, no))


@pytest.mark.parametrize("form", FORMS)
def test_unusual_names(form, tmp_path):
    odd = ["25 (1).jpg", "line\nbreak.jpg", "\N{GRINNING FACE}.jpg", "x" * 251 + ".jpg"]
    if form != "zip":
        odd.append(os.fsdecode(b"caf\xe9.jpg"))
    spec = write(form, tmp_path, dict.fromkeys(odd, b"data") | FACES)
    result = reasons(spec)
    assert set(result) == set(odd) | set(FACES)
    assert all(result[name] for name in odd) and not any(result[name] for name in FACES)


def test_folder_members_other_than_regular_files_inside(tmp_path):
    root = Path(write("folder", tmp_path, {f"a/1_0_0_{DATE}": b"good", "a/big.jpg": b""}))
    (tmp_path / f"2_0_0_{DATE}").write_bytes(b"outside")
    with (root / "a/big.jpg").open("wb") as file:
        file.truncate(listing.MAX_BYTES + 1)
    os.mkfifo(root / "a/fifo.jpg")
    (root / "a/folder.jpg").mkdir()
    (root / "a/nothing.jpg").symlink_to("missing")
    (root / "a/loop.jpg").symlink_to("loop.jpg")
    (root / "a/loop").symlink_to("..")
    (root / f"a/3_0_0_{DATE}").symlink_to(f"1_0_0_{DATE}")
    (root / f"a/2_0_0_{DATE}").symlink_to(tmp_path / f"2_0_0_{DATE}")
    os.link(root / f"a/1_0_0_{DATE}", root / f"a/4_0_0_{DATE}")
    assert reasons(str(root)) == {
        f"1_0_0_{DATE}": None,
        f"3_0_0_{DATE}": None,
        f"4_0_0_{DATE}": None,
        f"2_0_0_{DATE}": "a link that leads outside the source",
        "big.jpg": listing.TOO_LARGE,
        "fifo.jpg": listing.NOT_REGULAR,
        "folder.jpg": listing.FOLDER,
        "loop.jpg": "cannot be read: Too many levels of symbolic links",
        "nothing.jpg": "a link to nothing",
    }


def test_joined_sources(tmp_path):
    parts = []
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        form = "zip" if name == "b" else "folder"
        parts.append(write(form, tmp_path / name, {f"x/{name}_{DATE}": b""} | FACES))
    spec = f"{parts[0]}, {parts[1]},{parts[2]}"
    assert sources.source_name(spec) == "faces+faces-2+faces-3"
    files = [item.file for item in sources.read(spec)]
    assert files == sorted(files) and len(files) == 3 * len(FACES) + 3
    assert {file.split("/")[0] for file in files} == {"faces", "faces-2", "faces-3"}
    assert f"faces-2/x/a_{DATE}" in files
    with pytest.raises(DataError, match="named twice"):
        sources.resolve(f"{parts[1]},{parts[1]}/")


@pytest.fixture
def with_parts(tmp_path):
    """Return a folder of faces with links to a folder elsewhere and an archive."""
    root = Path(write("folder", tmp_path, {f"a/{name}": data for name, data in FACES.items()}))
    (tmp_path / "elsewhere").mkdir()
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "more.tar.gz").touch()
    (root / ".hidden").symlink_to(tmp_path / "elsewhere")
    return root


def test_links_to_folders_and_archives_in_a_folder_are_named(with_parts, tmp_path):
    assert sources.left_out_of_folders(f"{with_parts},synthetic:5") == [
        ("a/more.tar.gz", "an archive in a folder, not read"),
        ("b", f"a link to the folder {tmp_path / 'elsewhere'}, not followed"),
    ]
    assert len(list(sources.read(str(with_parts)))) == len(FACES)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
def test_links_and_archives_in_an_archive_are_named(form, with_parts, tmp_path):
    """A link to a file, or to another link, is not left out, and neither is a folder with the name of an archive."""
    first = min(FACES)
    (with_parts / "c").symlink_to("a")
    (with_parts / "first").symlink_to(f"a/{first}")
    (with_parts / "again").symlink_to("first")
    (with_parts / "folder.tar").mkdir()
    spec, left_out = pack(with_parts, tmp_path / f"packed.{form}"), []
    files = {item.file for item in sources.read(f"{spec},{with_parts}", on_left_out=left_out.append)}
    assert left_out == [
        [],
        [
            ("a/more.tar.gz", "an archive in an archive, not read"),
            ("b", f"a link to {tmp_path / 'elsewhere'}, not followed"),
            ("c", "a link to a, not followed"),
        ],
    ]
    assert len(files) == 2 * len(FACES)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_archive_that_contains_only_links_and_archives_names_them(form, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "part").symlink_to("/elsewhere")
    (tmp_path / "source" / "faces.tar").touch()
    with pytest.raises(DataError, match="no images") as caught:
        list(sources.read(pack(tmp_path / "source", tmp_path / f"packed.{form}")))
    assert "(faces.tar is an archive in an archive, not read; part is a link to /elsewhere," in caught.value.fix


def test_a_source_that_contains_only_links_names_them(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no images") as caught:
        list(sources.read(str(tmp_path / "source")))
    assert f"part is a link to the folder {tmp_path / 'elsewhere'}" in caught.value.fix


@pytest.mark.parametrize("form", FORMS)
def test_no_images(form, tmp_path):
    with pytest.raises(DataError, match="no images"):
        list(sources.read(write(form, tmp_path, {"README.txt": b"none here"})))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path):
    root = Path(write("folder", tmp_path, FACES | {f"sub/1_0_0_{DATE}": b""}))
    (root / f"1_1_1_{DATE}").chmod(0)
    assert reasons(str(root))[f"1_1_1_{DATE}"] == "cannot be read: Permission denied"
    (root / "sub").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        list(sources.read(str(root)))
    (root / "sub").chmod(0o700)


@pytest.fixture
def five_seconds():
    def stop(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_fifos_do_not_hang(five_seconds, tmp_path):
    """Opening a FIFO without a writer would block forever."""
    root = Path(write("folder", tmp_path, FACES))
    os.mkfifo(root / f"5_0_0_{DATE}")
    os.mkfifo(root / "labels.csv")
    assert reasons(str(root))[f"5_0_0_{DATE}"] == listing.NOT_REGULAR


DATA = Path(os.environ.get("AGEGENDER_DATA", ""))


@pytest.mark.skipif(not DATA.is_file(), reason="AGEGENDER_DATA names no crop_part1.tar")
def test_the_real_chips(tmp_path):
    items = list(sources.read(str(DATA)))
    assert len(items) == 7807 and not [item.file for item in items if item.reason]
    assert Counter(item.label.gender for item in items) == {0: 3497, 1: 4310}
    malformed = {item.file: item.label for item in items}["61_3_20170109150557335.jpg.chip.jpg"]
    assert (malformed.age_years, malformed.gender, malformed.race_text) == (61, 1, "Indian")
    programs.unpack(DATA, tmp_path)
    shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path, "crop_part1")
    assert list(sources.read(str(tmp_path / "packed.tar.gz"))) == items
