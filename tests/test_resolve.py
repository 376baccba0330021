import os
import sys
import types
from pathlib import Path

import pytest
from source_files import FACES, FORMS, write

from agegender_jax.data import resolve, sources
from agegender_jax.errors import ConfigError, DataError


def test_a_comma_in_an_existing_path_does_not_join(tmp_path):
    (tmp_path / "a,b").mkdir()
    spec = write("folder", tmp_path / "a,b", FACES)
    assert sources.resolve(spec) == [Path(spec)] and sources.source_name(spec) == "faces"


def test_short_names():
    names = {
        "data/crop_part1": "crop_part1",
        "x/UTKFace.tar.gz": "UTKFace",
        "a.TGZ": "a",
        "f/train.csv": "train",
        "v1.2/": "v1.2",
        "synthetic:9": "synthetic",
        "a.tar, b.zip": "a+b",
        "x/a.tar,y/a,synthetic": "a+a-2+synthetic",
        "photos/synthetic": "synthetic-2",  # only synthetic faces have that name
        "synthetic.tar,synthetic": "synthetic-2+synthetic",
    }
    assert {spec: sources.source_name(spec) for spec in names} == names


@pytest.mark.parametrize("form", FORMS)
def test_a_name_without_suffix_finds_the_archive(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = write(form, tmp_path, FACES)
    assert sources.resolve("faces")[0].resolve() == Path(spec)
    assert len(list(sources.read("faces"))) == len(FACES)


def test_a_missing_source_explains_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        sources.read("data/crop_part1")
    text = str(caught.value)
    assert caught.value.code == 3 and len(text.splitlines()) == 3
    assert "data/crop_part1" in text and ".tar.gz" in text and ".zip" in text
    assert "https://susanqq.github.io/UTKFace/" in text and "--config.data.source=synthetic" in text
    assert f"found {tmp_path}, which is empty" in text
    (tmp_path / "data").mkdir()
    for name in ("crop_part1.rar", "UTKFace.tar", "line\nbreak", ".hidden"):
        (tmp_path / "data" / name).touch()
    with pytest.raises(DataError) as caught:
        sources.resolve("data/crop_part1")
    assert "data with UTKFace.tar, crop_part1.rar, 'line\\nbreak'" in caught.value.where
    with pytest.raises(DataError, match="not a folder, archive or FairFace CSV: data/crop_part1.rar"):
        sources.resolve("data/crop_part1.rar")
    with pytest.raises(DataError, match="no such data source"):
        sources.resolve("data/UTKFace.tar,data/absent.zip")
    os.mkfifo("data/pipe.tar")
    with pytest.raises(DataError, match="not a folder"):
        sources.resolve("data/pipe.tar")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\udcff"])
def test_impossible_paths(name):
    with pytest.raises(DataError) as caught:
        sources.resolve(name)
    assert caught.value.what.isprintable() and caught.value.where.isprintable()


@pytest.mark.parametrize("spec", ["", " ", ",", "synthetic:", "synthetic:0", "synthetic:x", "synthetic:-1"])
def test_strings_that_are_not_sources(spec):
    with pytest.raises(ConfigError):
        sources.resolve(spec)


@pytest.fixture
def fake_generator(monkeypatch):
    """A generator that counts its calls and writes its `style` into each file."""
    generator = types.SimpleNamespace(calls=[], style=b"plain")

    def write_faces(folder, num, seed, size, progress):
        generator.calls.append(num)
        for i in range(num):
            (Path(folder) / f"{i % 90}_{i % 2}_0_{i:017d}.jpg.chip.jpg").write_bytes(generator.style)

    generator.write_faces = write_faces
    monkeypatch.setitem(sys.modules, "agegender_jax.synthetic", generator)
    monkeypatch.setattr("agegender_jax.synthetic", generator, raising=False)
    return generator


def test_synthetic_faces_are_generated_once_for_each_version(fake_generator, tmp_path):
    for _ in range(2):
        assert len(list(sources.read("synthetic:40", tmp_path / "cache"))) == 40
    assert fake_generator.calls.count(40) == 1
    (folder,) = sources.resolve("synthetic:40", tmp_path / "cache")
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert names == [folder.name, f"{folder.name}.digest"]
    fake_generator.style = b"better"
    assert {item.data for item in sources.read("synthetic:40", tmp_path / "cache")} == {b"better"}
    assert sources.resolve("synthetic", tmp_path / "cache")[0].name.startswith("synthetic-3000-")


@pytest.mark.parametrize("digest", [True, False])
def test_a_damaged_folder_of_synthetic_faces_is_generated_again(digest, fake_generator, tmp_path):
    """Even one of version 0.2.0, without a digest, if files are missing."""
    (folder,) = sources.resolve("synthetic:40", tmp_path)
    first, second, *_ = sorted(folder.iterdir())
    if not digest:
        folder.with_name(f"{folder.name}.digest").unlink()
        sources.resolve("synthetic:40", tmp_path)
        assert fake_generator.calls.count(40) == 1
    for damage in (first.unlink, *([lambda: second.write_bytes(b"cut")] if digest else [])):
        calls = fake_generator.calls.count(40)
        damage()
        assert sources.resolve("synthetic:40", tmp_path) == [folder]
        assert {path.read_bytes() for path in folder.iterdir()} == {b"plain"} and len(list(folder.iterdir())) == 40
        assert fake_generator.calls.count(40) == calls + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}.digest"]


def test_an_interrupted_generation_leaves_nothing(fake_generator, tmp_path, monkeypatch):
    def broken(folder, num, seed, size, progress):
        (Path(folder) / "1.jpg").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_generator, "write_faces", broken)
    with pytest.raises(KeyboardInterrupt):
        sources.resolve("synthetic", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_folder(fake_generator, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert resolve.cache_folder() == tmp_path / "agegender_jax"
    assert sources.resolve("synthetic:3", "")[0].parent == tmp_path / "agegender_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve.cache_folder() == tmp_path / ".cache/agegender_jax"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cache cannot be written"):
        sources.resolve("synthetic:3", tmp_path / "file")


def test_outputs_inside_a_source_are_refused(tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "faces")
    (tmp_path / "a.tar").touch()
    for workdir in ("faces", "faces/runs/one"):
        for spec in (tmp_path / "faces", tmp_path / "link", f"{tmp_path / 'a.tar'},{tmp_path / 'faces'}"):
            with pytest.raises(ConfigError, match="--workdir is inside the data source") as caught:
                resolve.check_outside(str(spec), tmp_path / workdir, "--workdir")
            assert caught.value.code == 2
    for workdir in ("faces2/one", "runs", "faces/.cache/one"):
        resolve.check_outside(str(tmp_path / "faces"), tmp_path / workdir, "--workdir")
    resolve.check_outside(str(tmp_path / "a.tar"), tmp_path, "--out")
    resolve.check_outside("synthetic", tmp_path, "--out")
    resolve.check_outside(str(tmp_path / "nowhere"), tmp_path / "nowhere", "--out")  # an error where it is read


@pytest.mark.parametrize("call", [sources.resolve, sources.read, lambda path: sources.read("synthetic:1", path)])
def test_unknown_home_folders(call):
    with pytest.raises(ConfigError, match="the home folder of ~nosuchuser is not known"):
        call("~nosuchuser/faces")


def test_an_existing_path_is_one_source_whatever_is_in_its_name(tmp_path):
    for name in ("a,b", " c "):
        (tmp_path / name).mkdir()
        assert resolve.parts(f"{tmp_path / name}") == [f"{tmp_path / name}"]
    assert resolve.parts(f"{tmp_path}, synthetic:9") == [f"{tmp_path}", "synthetic:9"]
