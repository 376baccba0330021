"""The split of FairFace that the package's nets were trained with, as a CSV for data.splits."""

import sys

import numpy as np
import pytest

from agegender_jax import synthetic
from agegender_jax.config import default
from agegender_jax.run.dataset import load_dataset
from benchmarks import fairface_split

VAL, TEST, TRAIN = 10, 5, (1, 2, 3, 4)


def test_the_list_has_a_tenth_of_the_chips_in_val_and_in_test():
    table = fairface_split.held_out()
    splits = list(table.values())
    assert splits.count("val") == splits.count("test") == 2497 and len(table) == 4994
    assert 1 <= min(table) and max(table) <= 25_000
    assert table[VAL] == "val" and table[TEST] == "test" and not table.keys() & set(TRAIN)


def test_near_duplicates_of_val_and_test_are_left_out():
    files = [f"a/{number}.png" for number in (VAL, 1, TEST, VAL, 2, 3)]
    groups = np.array([0, 0, 1, 1, 2, 2])
    table = {VAL: "val", TEST: "test"}
    assert fairface_split.assign(files, groups, table) == ["val", "", "test", "", "train", "train"]


def test_the_csv_divides_a_source(tmp_path, monkeypatch, capsys):
    synthetic.write_faces(tmp_path / "drawn", 6, seed=0, size=64)
    folder = tmp_path / "fairface"
    folder.mkdir()
    lines = ["file,age,gender,race"]
    for number, drawn in zip((VAL, TEST, *TRAIN), sorted((tmp_path / "drawn").glob("*.jpg")), strict=True):
        (folder / f"{number}.jpg").write_bytes(drawn.read_bytes())
        lines.append(f"{number}.jpg,20-29,Female,White")
    (folder / "labels.csv").write_text("\n".join(lines))
    config = default()
    config.data.update(source=str(folder), splits=str(tmp_path / "split.csv"), cache_dir=str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["fairface_split", f"--source={folder}", f"--out={config.data.splits}"])
    fairface_split.main()
    assert "{'train': 4, 'val': 1, 'test': 1, 'left out': 0}" in capsys.readouterr().out
    dataset = load_dataset(config, lambda *_: None)
    split = dict(zip(dataset.prepared.file.tolist(), dataset.assignment.tolist(), strict=True))
    assert split == {f"{number}.jpg": "train" for number in TRAIN} | {f"{VAL}.jpg": "val", f"{TEST}.jpg": "test"}


def test_a_source_whose_files_have_other_names_is_refused(tmp_path, monkeypatch, capsys):
    synthetic.write_faces(tmp_path / "faces", 2, seed=0, size=64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = f"--out={tmp_path / 'split.csv'}"
    monkeypatch.setattr(sys, "argv", ["fairface_split", f"--source={tmp_path / 'faces'}", out])
    with pytest.raises(SystemExit):
        fairface_split.main()
    assert "is not named by its number in FairFace" in capsys.readouterr().err and not list(tmp_path.glob("*.csv"))
