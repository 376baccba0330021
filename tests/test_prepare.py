import concurrent.futures
import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from agegender_jax import synthetic
from agegender_jax.data import cache, prepare, splits, tfds_builder
from agegender_jax.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    synthetic.write_faces(folder, 40, seed=0, size=48)
    return folder


@pytest.fixture
def built(monkeypatch):
    """Record each new preparation of data."""
    calls = []
    write = tfds_builder.write
    monkeypatch.setattr(tfds_builder, "write", lambda *args: calls.append(1) or write(*args))
    return calls


def test_prepared_once_and_reused(faces, tmp_path, built):
    first = prepare.prepare(str(faces), str(tmp_path))
    second = prepare.prepare(str(faces), str(tmp_path))
    assert len(built) == 1 and second.fingerprint == first.fingerprint
    assert sorted(first.file) == sorted(path.name for path in faces.iterdir())
    for name in ("age_years", "gender", "race", "group", "dhash", "age"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    (folder,) = (path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folder == f"{first.fingerprint[:16]}-{tfds_builder.VERSION}"


def test_no_temporary_files_are_left(faces, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    prepare.prepare(str(faces), str(tmp_path / "cache"))
    assert not list((tmp_path / "temporary").iterdir())


def test_an_archive_of_the_files_is_the_same_source(faces, tmp_path):
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as archive:
        for path in sorted(faces.iterdir(), reverse=True):
            archive.add(path, f"some/folder/{path.name}")
    a, b = (prepare.prepare(str(spec), str(tmp_path / "cache")) for spec in (faces, tmp_path / "faces.tar.gz"))
    assert a.fingerprint == b.fingerprint
    np.testing.assert_array_equal(splits.assign(a.group, a.content, 0), splits.assign(b.group, b.content, 0))


def test_images_are_stored_verbatim_in_array_record_files(faces, tmp_path):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    for i in (0, 17, 39):
        assert prepared.encoded(i) == (faces / prepared.file[i]).read_bytes()
    (path,) = prepared.folder.rglob("*.array_record*")
    stored = ArrayRecordReader(str(path)).read_all()
    assert len(stored) == 40 and any((faces / prepared.file[0]).read_bytes() in record for record in stored)


@pytest.mark.parametrize("damage", ["truncated", "gone", "one file of none"])
def test_damaged_data_are_prepared_again(faces, tmp_path, built, damage):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    (path,) = prepared.folder.rglob("*.array_record*")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3000])
    elif damage == "gone":
        path.unlink()
    else:
        (prepared.folder / "bad.json").unlink()
    assert len(prepare.prepare(str(faces), str(tmp_path)).file) == 40 and len(built) == 2


@pytest.mark.parametrize("name", ["*.array_record*", "index.npz", "bad.json", "dataset_info.json", "checksums.json"])
def test_a_flipped_bit_is_detected_at_the_next_start(faces, tmp_path, built, name):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    (path,) = prepared.folder.rglob(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    notes = []
    again = prepare.prepare(str(faces), str(tmp_path), progress=lambda done, total, text: notes.append(text))
    assert len(built) == 2 and any("prepared data are damaged" in text for text in notes)
    assert [again.encoded(i) for i in range(40)] == [(faces / file).read_bytes() for file in again.file]


@pytest.mark.parametrize("damage", [b"", b"not an array", "a bit", "no checksum"])
def test_decoded_images_are_cached_and_decoded_again_when_damaged(faces, tmp_path, damage):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    images = np.array(prepared.images(32))
    assert images.shape == (40, 32, 32, 3) and images.std() > 10
    path = prepared.folder / "images_32.npy"
    data = path.read_bytes()
    path.unlink()  # its pages are in memory still
    if damage == "no checksum":
        path.with_name("images_32.npy.crc32").unlink()
        damage = data
    elif damage == "a bit":
        damage = data[:-1] + bytes([data[-1] ^ 1])
    path.write_bytes(damage or data[:-1000])
    prepared = prepare.prepare(str(faces), str(tmp_path))
    np.testing.assert_array_equal(prepared.images(32), images)
    assert isinstance(prepared.images(32), np.memmap)


def test_bad_files_are_listed_and_too_many_refused(faces, tmp_path):
    source = tmp_path / "source"
    synthetic.write_faces(source, 20, seed=1, size=48)
    (source / "20_0_0_20170101000000000.jpg").write_bytes(b"\xff\xd8 torn")
    (source / "who_is_this.jpg").write_bytes((next(faces.iterdir())).read_bytes())
    prepared = prepare.prepare(str(source), str(tmp_path / "cache"), max_bad=0.2)
    assert [file for file, _ in prepared.bad] == ["20_0_0_20170101000000000.jpg", "who_is_this.jpg"]
    assert all(reason for _, reason in prepared.bad) and len(prepared.file) == 20
    with pytest.raises(DataError, match="2 of 22") as caught:
        prepare.prepare(str(source), str(tmp_path / "cache"))
    assert caught.value.code == 3 and "who_is_this.jpg" in caught.value.what and "0.1" in caught.value.fix


def test_no_usable_image(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "20_0_0_20170101000000000.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no usable image"):
        prepare.prepare(str(tmp_path / "source"), str(tmp_path / "cache"))


def test_a_corrected_csv_is_another_source(faces, tmp_path, built):
    source = tmp_path / "fairface"
    source.mkdir()
    (source / "1.jpg").write_bytes(next(faces.iterdir()).read_bytes())
    result = []
    for age, gender in (("20-29", "Male"), ("more than 70", "Female")):
        (source / "labels.csv").write_text(f"file,age,gender,race\n1.jpg,{age},{gender},White\n")
        result.append(prepare.prepare(str(source), str(tmp_path / "cache")))
    assert [(p.age_text[0], p.age[0].tolist(), p.gender[0]) for p in result] == [
        ("20-29", [2, 2], 0),
        ("more than 70", [7, 11], 1),
    ]
    assert result[0].fingerprint != result[1].fingerprint and len(built) == 2


def _fingerprint(arguments):
    return prepare.prepare(*arguments).fingerprint


def test_two_processes_at_once(faces, tmp_path):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        a, b = pool.map(_fingerprint, [(str(faces), str(tmp_path))] * 2)
    assert a == b and len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_tensorflow_is_never_imported(faces, tmp_path):
    program = (
        "import sys; from agegender_jax.data.prepare import prepare; "
        "prepare(*sys.argv[1:]).images(32); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, faces, tmp_path], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


def test_sha256_depends_only_on_the_pixels(faces, tmp_path):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    pixels = np.asarray(Image.open(faces / prepared.file[3]).convert("RGB"))
    assert prepared.sha256[3] == hashlib.sha256(pixels.tobytes()).hexdigest() != prepared.content[3]


def test_a_full_disk_while_resizing_is_an_error_and_leaves_nothing(faces, tmp_path, monkeypatch):
    prepared = prepare.prepare(str(faces), str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        prepared.images(40)
    assert not list(prepared.folder.glob("images_40*"))


def test_a_failure_while_resizing_leaves_nothing(faces, tmp_path, monkeypatch):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    (prepared.folder / "images_40.npy.1-2.tmp").write_bytes(b"of a process that was killed")
    monkeypatch.setattr("agegender_jax.data.prepared_source.resize", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepared.images(40)
    assert not list(prepared.folder.glob("images_40*"))


def test_a_full_disk_while_preparing_names_the_folder_and_leaves_nothing(faces, tmp_path, monkeypatch):
    def full(folder, records):
        (folder / "half").write_bytes(b"")
        with cache.full_disk(folder):
            raise RuntimeError("RESOURCE_EXHAUSTED: write failed: No space left on device")

    monkeypatch.setattr(tfds_builder, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        prepare.prepare(str(faces), str(tmp_path))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename.startswith(str(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_an_exception_of_the_progress_callback_ends_every_phase_and_leaves_nothing(faces, tmp_path):
    """As a signal does; in every phase."""
    texts = []
    prepare.prepare(str(faces), str(tmp_path / "first"), progress=lambda *row: texts.append(row[2]))
    phases = list(dict.fromkeys(texts))
    assert len(phases) == 4
    for i, phase in enumerate(phases):

        def stop(done, total, text, phase=phase):
            if text == phase:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(str(faces), str(tmp_path / str(i)), progress=stop)
        assert [path.suffix for path in (tmp_path / str(i)).iterdir()] in ([], [".lock"]), phase


def test_memory_does_not_grow_with_the_bytes_of_the_images(tmp_path, monkeypatch):
    count, size = 60, 400_000
    (tmp_path / "large").mkdir()
    synthetic.write_faces(tmp_path / "large", count, seed=0, size=32)
    for path in (tmp_path / "large").iterdir():
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # decoders ignore what follows an image
    seen = []
    monkeypatch.setattr(
        tfds_builder, "write", lambda folder, records: seen.extend(len(row["image"]) for row in records)
    )
    monkeypatch.setattr(tfds_builder, "read", lambda folder: [])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    tracemalloc.start()
    with pytest.raises(ZeroDivisionError):  # nothing was written
        prepare.prepare(str(tmp_path / "large"), str(tmp_path / "cache"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == [size] * count and peak < count * size / 2


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_prepared_data_that_are_temporarily_unreadable_are_not_removed(faces, tmp_path, built, monkeypatch, error):
    folder = prepare.prepare(str(faces), str(tmp_path)).folder
    before = sorted(folder.rglob("*"))

    def fail(folder):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tfds_builder, "read", fail)
        with pytest.raises((DataError, MemoryError)) as caught:
            prepare.prepare(str(faces), str(tmp_path))
    if isinstance(error, OSError):
        assert "cannot be read: Too many open files" in caught.value.what and caught.value.where == str(folder)
    assert sorted(folder.rglob("*")) == before and len(built) == 1
    assert len(prepare.prepare(str(faces), str(tmp_path)).file) == 40 and len(built) == 1


def test_damaged_data_are_removed_after_they_are_replaced(faces, tmp_path, monkeypatch):
    folder = prepare.prepare(str(faces), str(tmp_path)).folder
    (folder / "index.npz").write_bytes(b"not an index")
    with monkeypatch.context() as patch:
        patch.setattr(tfds_builder, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare.prepare(str(faces), str(tmp_path))
    assert (folder / "index.npz").read_bytes() == b"not an index"
    assert len(prepare.prepare(str(faces), str(tmp_path)).file) == 40
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]


def test_leftovers_of_killed_processes_are_removed(faces, tmp_path):
    folder = prepare.prepare(str(faces), str(tmp_path)).folder
    folder.rename(folder.with_name(f"{folder.name}.1-2.tmp"))
    folder.with_name(f"{folder.name}.tmp").mkdir()  # as version 0.1 called it
    prepare.prepare(str(faces), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]


def test_data_removed_during_use(faces, tmp_path):
    images = np.array(prepare.prepare(str(faces), str(tmp_path / "cache")).images(32))
    prepared = prepare.prepare(str(faces), str(tmp_path / "cache"))
    prepared.images(32)
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(prepared.images(32), images)
    for call in (lambda: prepared.images(40), lambda: prepared.encoded(0)):
        with pytest.raises(DataError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 3 and caught.value.where.startswith(str(tmp_path / "cache"))


def test_arrays_go_beside_prepared_data_of_another_user(faces, tmp_path, monkeypatch):
    prepared = prepare.prepare(str(faces), str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert prepared.images(32).shape == (40, 32, 32, 3)
    assert [path.name for path in tmp_path.glob("*/images_32.npy")] == ["images_32.npy"]
    assert not (prepared.folder / "images_32.npy").exists()
    assert prepare.prepare(str(faces), str(tmp_path)).images(32).shape == (40, 32, 32, 3)


def test_names_that_are_not_utf8(faces, tmp_path):
    source = tmp_path / os.fsdecode(b"caf\xe9")
    source.mkdir()
    name = os.fsdecode(b"30_0_0_20170101000000000.\xe9.jpg")
    (source / name).write_bytes(next(faces.iterdir()).read_bytes())
    (source / os.fsdecode(b"bad\xe9.jpg")).write_bytes(b"")
    for _ in range(2):
        prepared = prepare.prepare(str(source), str(tmp_path / "cache"), 0.5)
        assert prepared.file.tolist() == [name] and [os.fsencode(file) for file, _ in prepared.bad] == [b"bad\xe9.jpg"]
    with pytest.raises(ConfigError, match="not UTF-8"):
        prepare.prepare(str(faces), str(source))


def test_a_cache_inside_of_the_source_is_refused(faces, tmp_path):
    with pytest.raises(ConfigError, match="data.cache_dir is inside the data source"):
        prepare.prepare(str(faces), str(faces / "cache"))
    assert not (faces / "cache").exists()


def test_a_cache_that_is_a_circle_of_links_is_refused(faces, tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ConfigError, match="links lead in a circle"):
        prepare.prepare(str(faces), str(tmp_path / "circle"))


def test_only_the_progress_is_printed(faces, tmp_path, capsys):
    shown = set()
    prepare.prepare(str(faces), str(tmp_path), progress=lambda done, total, text: shown.add(text) or print(text))
    assert "writing the prepared images" in shown and set(capsys.readouterr().out.splitlines()) == shown


def test_a_warning_names_what_is_left_out(faces, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(faces, source / "a")
    (source / "b").symlink_to(faces)
    prepared = prepare.prepare(str(source), str(tmp_path / "cache"))
    assert f"b: a link to the folder {faces}, not followed; to read it too" in prepared.warning()
    assert prepare.prepare(str(faces), str(tmp_path / "cache")).warning() == ""


@pytest.mark.parametrize("bad, advised", [(4, True), (20, False)])
def test_a_larger_max_bad_is_advised_for_few_files_only(faces, tmp_path, bad, advised):
    shutil.copytree(faces, tmp_path / "source")
    for i in range(bad):
        (tmp_path / "source" / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="are unusable") as caught:
        prepare.prepare(str(tmp_path / "source"), str(tmp_path / "cache"))
    assert ("max_bad" in caught.value.fix) == advised
