"""Tar and zip archives: which members are read, and which archives are refused."""

import errno
import gzip
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from source_files import DATE, FACES, member, pack, reasons, write, write_tar

from agegender_jax.data import listing, sources
from agegender_jax.errors import DataError


def test_tar_members_other_than_regular_files_inside(tmp_path):
    good = f"in/1_0_0_{DATE}"
    members = [
        member(good, b"good"),
        member(f"../1_1_0_{DATE}", b"climbs"),
        member(f"in/../../1_1_0_{DATE}", b"climbs"),
        member(f"/etc/1_1_0_{DATE}", b"absolute"),
        member("in/soft.jpg", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("in/hard.jpg", kind=tarfile.LNKTYPE, target=good),
        member("in/fifo.jpg", kind=tarfile.FIFOTYPE),
        member("in/device.jpg", kind=tarfile.CHRTYPE),
        member("in/folder.jpg", kind=tarfile.DIRTYPE),
        member("in/soft.txt", kind=tarfile.SYMTYPE, target="/etc/passwd"),
    ]
    for name in ("a.tar", "a.tgz"):
        assert reasons(write_tar(tmp_path / name, members)) == {
            f"1_0_0_{DATE}": None,
            f"../1_1_0_{DATE}": listing.OUTSIDE,
            f"in/../../1_1_0_{DATE}": listing.OUTSIDE,
            f"/etc/1_1_0_{DATE}": listing.OUTSIDE,
            "soft.jpg": listing.LINK_OUTSIDE,
            "hard.jpg": "name has 1 of the 4 parts age_gender_race_date",
            "fifo.jpg": listing.NOT_REGULAR,
            "device.jpg": listing.NOT_REGULAR,
            "folder.jpg": listing.FOLDER,
        }


def test_zip_members_other_than_regular_files_inside(tmp_path):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("in/soft.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"in/1_0_0_{DATE}", b"good")
        archive.writestr(link, "/etc/passwd")
        for name in ("../1_1_0_", "/1_1_0_", "C:\\1_1_0_", "in\\2_0_0_"):
            archive.writestr(zipfile.ZipInfo(name + DATE), b"")
        archive.writestr(zipfile.ZipInfo("in/d.jpg/"), b"")
    assert reasons(str(path)) == {
        f"1_0_0_{DATE}": None,
        f"2_0_0_{DATE}": None,
        f"../1_1_0_{DATE}": listing.OUTSIDE,
        f"/1_1_0_{DATE}": listing.OUTSIDE,
        f"C:/1_1_0_{DATE}": listing.OUTSIDE,
        "soft.jpg": listing.LINK_OUTSIDE,
        "d.jpg": listing.FOLDER,
    }


@pytest.mark.parametrize("form", ["tar", "tgz", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_several_equal_names_is_used(form, tmp_path):
    name = f"1_0_0_{DATE}"
    path = tmp_path / f"a.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"first")
            archive.writestr(f"./{name}", b"last")
    else:
        write_tar(path, [member(name, b"first"), member(f"./{name}", b"last")])
    items = list(sources.read(str(path)))
    assert [(item.file, item.data) for item in items] == [(name, None), (name, b"last")]
    assert items[0].reason == "replaced by a later member of the same name"


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_members_are_bounded(form, tmp_path):
    huge = b"\0" * (listing.MAX_BYTES + 1)
    spec = write(form, tmp_path, {f"1_0_0_{DATE}": huge, f"2_0_0_{DATE}": b"small"})
    assert reasons(spec) == {f"1_0_0_{DATE}": listing.TOO_LARGE, f"2_0_0_{DATE}": None}


def test_archives_that_claim_far_more_than_their_size(tmp_path):
    info = tarfile.TarInfo(f"1_0_0_{DATE}")
    info.size = 2**34
    bomb = tmp_path / "bomb.tgz"
    bomb.write_bytes(gzip.compress(info.tobuf() + b"\0" * 10**6))
    with pytest.raises(DataError, match="claims to unpack to more than 1024 MiB"):
        list(sources.read(str(bomb)))

    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", b"\0" * 2**25)
    central = many.read_bytes()
    start = central.index(b"PK\1\2")
    record = central[start : central.index(b"PK\5\6")]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 40, 40, len(record) * 40, start, 0)
    many.write_bytes(central[:start] + record * 40 + end)  # 40 names for the same 32 MiB
    with pytest.raises(DataError, match="claims to unpack"):
        list(sources.read(str(many)))


def sized(i, **fields):
    """Return an empty tar member with fields in a PAX header, for write_tar."""
    info, data = member(f"{i}_0_0_{DATE}")
    info.pax_headers = {name.replace("_", "."): str(value) for name, value in fields.items()}
    return info, data


HOLES = [sized(i, GNU_sparse_map="0,0", GNU_sparse_size=60 * 2**20) for i in range(40)]  # 2.4 GiB


@pytest.mark.parametrize(
    "members, reason",
    [
        (HOLES, "claims to unpack to more than 1024 MiB"),
        ([sized(0, GNU_sparse_map="0,0", GNU_sparse_size=-(10**15)), *HOLES], "size of -1000000000000000 bytes"),
        (
            [member(f"1_0_0_{DATE}", b"x"), sized(2, size=-1536)],
            "damaged or cut short",
        ),  # leads to its own header again
    ],
    ids=["large", "negative", "backward"],
)
@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_sizes_in_extended_headers_count(form, members, reason, tmp_path):
    path = write_tar(tmp_path / f"a.{form}", members)
    assert os.path.getsize(path) < 2**17
    with pytest.raises(DataError, match=reason):
        list(sources.read(path))


def headers(fields, kind=tarfile.XHDTYPE):
    """Return the blocks of a PAX header."""
    text = b"".join(b"%03d %s\n" % (len(field) + 5, field) for field in fields)
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(text)
    return info.tobuf() + text.ljust(-(-len(text) // 512) * 512, b"\0")


def old_sparse(blocks):
    """Return the header of a GNU sparse file and blocks of its map, each of which says that another follows."""
    header = bytearray(member(f"1_0_0_{DATE}", kind=tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
    header[386:410], header[482], header[483:495] = b"00000000001\0" * 2, 1, b"00000000010\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + ((b"00000000001\0" * 42).ljust(511, b"\1") + b"\0") * blocks


def test_headers_of_tar_members_are_bounded(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2**20 - 1024
    named = long_name.tobuf() + b"x" * long_name.size + tarfile.TarInfo("a").tobuf()
    fields = headers([b"GNU.a%05d=" % i for i in range(20000)], tarfile.XGLTYPE)
    many = fields + b"".join(tarfile.TarInfo(f"{i}.txt").tobuf() for i in range(1000))
    sparse = headers([b"GNU.sparse.major=1", b"GNU.sparse.minor=0"]) + tarfile.TarInfo("a").tobuf()
    for content, reason in (
        ([named] * 70, "claims to unpack"),
        ([many], "claims to unpack"),
        ([old_sparse(4000)], "more than 1 MiB of headers"),
        ([sparse, b"999999999\n", b"0\n" * 2**21], "more than 1 MiB of headers"),
    ):
        with gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
            file.writelines(content)
        with pytest.raises(DataError, match=reason):
            list(sources.read(str(tmp_path / "a.tgz")))


@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_bad_extended_headers_are_refused(form, tmp_path):
    end = b"\0" * 1024
    bad = headers([b"a=bcdef"]).replace(b"012 a=", b"000 a=")
    for content in (old_sparse(2), bad + tarfile.TarInfo(f"1_0_0_{DATE}").tobuf() + end):
        path = tmp_path / f"a.{form}"
        path.write_bytes(content if form == "tar" else gzip.compress(content))
        with pytest.raises(DataError, match="damaged or cut short: a bad header"):
            list(sources.read(str(path)))


@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_folders_and_links_that_claim_to_be_sparse_files(form, tmp_path):
    members = [member(f"{i}_0_0_{DATE}", kind=kind) for i, kind in enumerate((tarfile.DIRTYPE, tarfile.SYMTYPE))]
    for info, _ in members:
        info.pax_headers = {"GNU.sparse.map": "0,1"}
    assert list(reasons(write_tar(tmp_path / f"a.{form}", members)).values()) == [
        listing.FOLDER,
        listing.LINK_TO_NOTHING,
    ]


def test_huge_and_nested_tar_headers(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(long_name.tobuf(tarfile.GNU_FORMAT) + b"x" * 10**6))
    with pytest.raises(DataError, match="header with a size of"):
        list(sources.read(str(path)))
    long_name.size = 1
    path = tmp_path / "b.tar"
    path.write_bytes((long_name.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 5000)
    with pytest.raises(DataError, match="damaged"):
        list(sources.read(str(path)))


@pytest.mark.parametrize("form", ["tar", "tgz", "zip"])
def test_archives_cut_short(form, tmp_path):
    path = Path(write(form, tmp_path, FACES))
    whole = path.read_bytes()
    used = len(FACES) * 1024 + 512 if form == "tar" else len(whole)
    for length in [*range(0, used, 97), *range(0, used, 512), used - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            list(sources.read(str(path)))
        assert caught.value.code == 3 and len(str(caught.value).splitlines()) == 3
        assert caught.value.where == str(path)


@pytest.mark.parametrize("form", ["tar", "tgz", "zip"])
def test_damaged_archives_are_read_or_refused(form, tmp_path):
    path = Path(write(form, tmp_path, FACES))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = Counter()
    for _ in range(300):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 8000), 2)] ^= np.uint8(1) << rng.integers(0, 8, 2, np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            outcomes["items"] += bool(list(sources.read(str(path))))
        except DataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20 and sum(outcomes.values()) == 300


def test_a_zip_member_with_a_bad_checksum_is_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FACES.items():
            archive.writestr(name, data)
    path.write_bytes(path.read_bytes().replace(b"face of 47", b"fake of 47"))
    bad = {name: reason for name, reason in reasons(str(path)).items() if reason}
    assert list(bad) == [f"47_1_2_{DATE}"] and "Bad CRC-32" in bad[f"47_1_2_{DATE}"]


def test_a_damaged_gzip_checksum_is_detected(tmp_path):
    path = Path(write("tgz", tmp_path, FACES))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        list(sources.read(str(path)))


def linked(folder):
    """Return a folder whose files are hard links, symbolic links of every kind, and one with a hole."""
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    (folder / "a" / f"1_0_0_{DATE}").write_bytes(b"one")
    os.link(folder / "a" / f"1_0_0_{DATE}", folder / "b" / f"2_0_0_{DATE}")
    (folder / "b" / f"3_0_0_{DATE}").symlink_to(f"../a/1_0_0_{DATE}")
    (folder / "b" / f"4_0_0_{DATE}").symlink_to(f"3_0_0_{DATE}")
    (folder / "b" / f"5_0_0_{DATE}").symlink_to("missing.jpg")
    (folder / "b" / f"6_0_0_{DATE}").symlink_to(folder.parent / "elsewhere.jpg")
    (folder / "b" / f"7_0_0_{DATE}").symlink_to(f"../../elsewhere_{DATE}")
    (folder.parent / "elsewhere.jpg").write_bytes(b"elsewhere")
    (folder.parent / f"elsewhere_{DATE}").write_bytes(b"elsewhere")
    (folder / "c").symlink_to("a")
    (folder / "b" / f"8_0_0_{DATE}").symlink_to(f"../c/1_0_0_{DATE}")
    with (folder / "b" / f"9_0_0_{DATE}").open("wb") as file:
        file.write(b"start")
        file.truncate(2**20)
        file.seek(2**20 - 3)
        file.write(b"end")
    return folder


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
@pytest.mark.parametrize("form", ["tar", "tar.gz", "sparse.tar", "zip"])
def test_a_folder_with_links_and_its_archive_are_the_same_source(form, tmp_path):
    folder = linked(tmp_path / "faces")
    path = tmp_path / f"packed.{form}"
    if form == "zip":
        pack(folder, path)
    else:
        flags = {"tar": "cf", "tar.gz": "czf", "sparse.tar": "cSf"}[form]
        subprocess.run(["tar", flags, path, "-C", tmp_path, "faces"], check=True)
    items, packed = ([(item.file, item.data) for item in sources.read(str(source))] for source in (folder, path))
    assert packed == items and sum(data is not None for _, data in items) == 6
    assert {reason for reason in reasons(str(path)).values() if reason} == {
        listing.LINK_OUTSIDE,
        listing.LINK_TO_NOTHING,
    }


@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_a_hard_link_is_the_file_of_that_name_before_it(form, tmp_path):
    old, link, early, soft = (f"{i}_0_0_{DATE}" for i in (1, 2, 3, 4))
    members = [
        member(early, kind=tarfile.LNKTYPE, target=old),  # tar cannot extract it
        member(old, b"old"),
        member(link, kind=tarfile.LNKTYPE, target=old),
        member(soft, kind=tarfile.SYMTYPE, target=old),
        member(old, b"new"),  # as `tar -r` appends it
    ]
    items = list(sources.read(write_tar(tmp_path / f"a.{form}", members)))
    assert {item.file: item.data for item in items if item.data} == {old: b"new", link: b"old", soft: b"new"}
    assert [item.reason for item in items if item.file == early] == [listing.LINK_TO_NOTHING]


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_concatenated_tar_archives_are_read_to_the_end(form, tmp_path):
    parts = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        parts.append(Path(write(form, tmp_path / str(i), {f"{i}_0_0_{DATE}": b"x", f"{i}_1_0_{DATE}": b"y"})))
    path = tmp_path / f"all.{form}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert set(reasons(str(path))) == {f"{i}_{j}_0_{DATE}" for i in range(3) for j in range(2)}
    path.write_bytes(path.read_bytes() + b"and more" * 100)
    with pytest.raises(DataError, match="damaged or cut short"):
        list(sources.read(str(path)))


def test_concatenated_zip_archives_are_refused(tmp_path):
    whole = b""
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        whole += Path(write("zip", tmp_path / str(i), {f"{i}_0_0_{DATE}": b"x"})).read_bytes()
    (tmp_path / "both.zip").write_bytes(whole)
    with pytest.raises(DataError, match="another archive before this one"):
        list(sources.read(str(tmp_path / "both.zip")))
    (tmp_path / "program.zip").write_bytes(b"#!/bin/sh\n" + (tmp_path / "0" / "faces.zip").read_bytes())
    assert reasons(str(tmp_path / "program.zip")) == {f"0_0_0_{DATE}": None}  # it unpacks itself


def test_padding_is_bounded(tmp_path):
    path = Path(write("tar", tmp_path, FACES))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 2**26)
    with pytest.raises(DataError, match="padding"):
        list(sources.read(str(path)))


def test_links_cannot_make_an_archive_claim_more_than_its_size(tmp_path):
    good = f"1_0_0_{DATE}"
    links = [member(f"{i}.jpg", kind=tarfile.LNKTYPE, target=good) for i in range(600)]
    for name in ("a.tar", "a.tgz"):
        with pytest.raises(DataError, match="claims to unpack"):
            list(sources.read(write_tar(tmp_path / name, [member(good, b"x" * 2**21), *links])))


@pytest.mark.parametrize("form", ["tar", "tgz", "zip"])
def test_errors_of_the_system_are_not_blamed_on_the_archive(form, tmp_path, monkeypatch):
    path = write(form, tmp_path, FACES)
    for number, error in ((errno.EMFILE, DataError), (errno.ENOSPC, OSError)):

        def fail(*_, number=number, **__):
            raise OSError(number, os.strerror(number))

        for module in ("tars.list_tar", "tars.list_tar_gz", "zips.list_zip"):
            monkeypatch.setattr(f"agegender_jax.data.{module}", fail)
        with pytest.raises(error, match="Too many open files|No space left") as caught:
            list(sources.read(path))
        assert "damaged" not in str(caught.value)
