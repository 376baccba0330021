"""The files for a GPU machine: their size, and packed faces with the splits of the originals."""

import numpy as np
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
