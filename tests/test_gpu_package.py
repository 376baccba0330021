"""The files for a GPU machine: their size, and packed faces with the splits of the originals."""

import json
import os
import shutil
import subprocess
import tarfile

import numpy as np
import programs
import pytest
from PIL import Image

from agegender_jax import synthetic
from agegender_jax.data import checksums, prepared_files
from agegender_jax.data.prepare import prepare
from agegender_jax.errors import ConfigError, DataError
from benchmarks import (
    gpu_package,
    pack_faces,
)


def test_the_size_of_a_package(tmp_path, monkeypatch, capsys):
    for folder, size in (("wheels", 1000), ("crop_part1", 2000), ("fairface", 5000)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"x" * size)
    measured = gpu_package.sizes(tmp_path)
    tree = measured["crop_part1"][0]
    assert measured == {"crop_part1": (tree, 1000, 2000), "fairface": (tree, 1000, 5000)}
    gpu_package.check(measured)
    assert "  0.0" in capsys.readouterr().out
    for limit, size, what in (("LIMIT", tree + 4000, "the checkout"), ("WHEELS_LIMIT", 999, "the wheels")):
        with monkeypatch.context() as patch, pytest.raises(ConfigError, match=f"where: {what}"):
            patch.setattr(gpu_package, limit, size)
            gpu_package.check(measured)
    monkeypatch.setattr(gpu_package, "DATA_LIMIT", 4000)
    with pytest.raises(ConfigError, match="where: fairface\n"):
        gpu_package.check(measured)


def test_the_checkout_leaves_room_for_the_wheels_and_the_data(tmp_path):
    """Their limits, which `check` holds them to, fit into a copy together with the files of this checkout."""
    (tmp_path / "faces").mkdir()
    (tree, _, _) = gpu_package.sizes(tmp_path)["faces"]
    assert 2**20 < tree <= gpu_package.LIMIT - gpu_package.WHEELS_LIMIT - gpu_package.DATA_LIMIT
    assert gpu_package.LIMIT < 64 * 2**20


def test_a_package_that_was_not_completed_is_made_again(tmp_path, monkeypatch):
    """A missing wheel; packed faces that were not compared with their source."""
    names = [name.replace("-", "_") for name in (*gpu_package.WHEELS, *gpu_package.SOURCE_ONLY)]
    for name in names[:-1]:
        (tmp_path / f"{name}-1.0-py3-none-any.whl").write_bytes(b"")
    assert gpu_package.lacking(tmp_path) == ["promise"]
    (tmp_path / "promise-2.3-py3-none-any.whl").write_bytes(b"")
    assert gpu_package.lacking(tmp_path) == []

    def pack(source, out, size, quality):
        out.write_text(source)
        return 1

    def differ(source, packed):
        raise DataError("1 packed images differ", packed, "pack the source again")

    out = tmp_path / "crop_part1" / "crop_part1.zip"
    monkeypatch.setattr(pack_faces, "pack", pack)
    monkeypatch.setattr(pack_faces, "compare_splits", differ)
    with pytest.raises(DataError):
        gpu_package.pack("faces", out, 32, 80)
    assert not out.parent.exists()
    monkeypatch.setattr(pack_faces, "compare_splits", lambda source, packed: {"train": 1})
    for source in ("faces", "others"):  # which is complete by then
        gpu_package.pack(source, out, 32, 80)
        assert out.read_text() == "faces" and json.loads(out.with_suffix(".json").read_text())["images"] == 1


def test_faces_that_are_not_aligned_are_refused(tmp_path, monkeypatch):
    """An archive, for example, that the name of a folder of chips without its own folder means."""
    (tmp_path / "aligned" / "faces").mkdir(parents=True)
    (tmp_path / "aligned" / "faces" / "align.json").write_text("{}")
    with tarfile.open(tmp_path / "faces.tar", "w"):
        pass
    monkeypatch.chdir(tmp_path)
    gpu_package.check_aligned("aligned/faces")
    with pytest.raises(ConfigError, match="not aligned chips"):
        gpu_package.check_aligned("faces")


def test_gpu_sh_installs_wheels_that_are_added_later(tmp_path):
    """A stand-in for Python notes its arguments; the folders are those of a copy of the script."""
    (tmp_path / "benchmarks").mkdir()
    script = shutil.copy(programs.ROOT / "benchmarks" / "gpu.sh", tmp_path / "benchmarks")
    python, calls, wheels = tmp_path / "python", tmp_path / "calls", tmp_path / "scratch" / "gpu" / "wheels"
    python.write_text(f'#!/bin/sh\nmkdir -p runs/gpu/site\necho "$@" >> {calls}\n')
    python.chmod(0o755)
    wheels.mkdir(parents=True)

    def run(*arguments):
        calls.write_text("")
        environment = os.environ | {"PYTHON": str(python)}
        done = subprocess.run(["bash", script, *arguments], env=environment, capture_output=True, text=True)
        return done.returncode, [line for line in calls.read_text().splitlines() if "pip install" in line], done.stderr

    assert run("090")[:2] == (0, [])  # no wheel yet, and not an octal number
    for added in ("a-1-py3-none-any.whl", "b-1-py3-none-any.whl"):
        (wheels / added).write_bytes(b"")
        code, installed, _ = run("100")
        assert code == 0 and len(installed) == 1 and added in installed[0]
        assert run()[:2] == (0, [])
    code, _, message = run("540.5")
    assert code == 2 and message == "error: SECONDS is a whole number, not 540.5\n"


def test_prepared_faces_get_the_hashes_of_their_originals(tmp_path):
    old = {"column_file": np.array(["a", "b"]), "column_group": np.array([0, 1], np.int32)}
    np.savez(tmp_path / prepared_files.INDEX, **old)
    checksums.write(tmp_path)
    pack_faces._replace_columns(tmp_path, {"group": np.array([0, 0], np.int32)})
    checksums.check(tmp_path)
    with np.load(tmp_path / prepared_files.INDEX) as index:
        assert index["column_group"].tolist() == [0, 0] and index["column_file"].tolist() == ["a", "b"]


@pytest.mark.slow
def test_packed_faces_have_the_split_of_the_originals(tmp_path):
    faces = synthetic.write_faces(tmp_path / "a", 40, seed=0, size=64)
    Image.open(faces[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a" / "1_0_0_20170101000000000.jpg")
    for i, path in enumerate(synthetic.write_faces(tmp_path / "b", 20, seed=1, size=64)):
        path.rename(path.with_name(f"{i}.jpg"))
    rows = [f"{i}.jpg,{('0-2', '20-29', 'more than 70')[i % 3]},Male,East Asian" for i in range(20)]
    (tmp_path / "b" / "labels.csv").write_text("\n".join(["file,age,gender,race", *rows]))
    both, cache = f"{tmp_path / 'a'},{tmp_path / 'b'}", str(tmp_path / "cache")
    for source, name in ((str(tmp_path / "a"), "a.tar.gz"), (both, "both.zip"), (str(tmp_path / "b"), "b.zip")):
        assert pack_faces.pack(source, tmp_path / "packed" / name, 48, 80) > 0
        counts = pack_faces.compare_splits(source, str(tmp_path / "packed" / name), cache)
        assert counts["test"] == counts["val"] > 0 and counts["train"] > counts["val"]
    with pytest.raises(DataError, match="labels are in a CSV"):
        pack_faces.pack(both, tmp_path / "packed" / "both.tar.gz", 48, 80)
    packed = tmp_path / "packed" / "both.zip"
    plain = prepare(str(packed), str(tmp_path / "other"))  # without the originals' hashes the split is another one
    with_hashes = pack_faces.prepare(str(packed), cache)
    assert sorted(plain.file) == sorted(with_hashes.file) and set(plain.content).isdisjoint(with_hashes.content)
    assert len(set(with_hashes.group)) == 60  # the mirrored copy is in its original's group
    joined = f"{tmp_path / 'packed' / 'b.zip'},{tmp_path / 'packed' / 'a.tar.gz'}"
    together = pack_faces.prepare(joined, cache)
    assert {file: content for file, content in zip(together.file, together.content, strict=True)} == {
        file: content for file, content in zip(with_hashes.file, with_hashes.content, strict=True)
    }
