"""Splits that a CSV names: what they may be, and that no group of near-duplicates is divided."""

import types

import numpy as np
import pytest

from agegender_jax import csv_cells
from agegender_jax.data import csv_splits
from agegender_jax.errors import DataError

SPLITS = ["train"] * 4 + ["val", "val", "test", "test"]
FILES = [f"{i}.png" for i in range(8)]
TABLE = dict(zip(FILES, SPLITS, strict=True))


def faces(files=FILES, near=()):
    """Return a source; `near` is a pair of equal pictures, or a chain."""
    count = len(files)
    dhash = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    group, content = np.arange(count), np.array([f"{i:04}" for i in range(count)])
    for i in near:
        dhash[i], group[i] = dhash[near[0]], near[0]
    fields = {"file": np.array(files), "group": group, "content": content, "dhash": dhash, "mirrored": np.arange(count)}
    return types.SimpleNamespace(bad=[("bad.png", "not an image")], **fields)


@pytest.fixture
def assign(tmp_path):
    """Return a function from rows, or the text of a CSV, to splits."""

    def call(table, source=None, own=None, folder=""):
        source, path = source or faces(), tmp_path / "splits.csv"
        text = table if isinstance(table, str) else "file,split\n" + "".join(f"{f},{s}\n" for f, s in table.items())
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        own = np.ones(len(source.file), bool) if own is None else np.array(own)
        return csv_splits.assign(source, own, str(path), folder).tolist()

    return call


def test_each_image_is_in_the_split_of_its_row(assign):
    assert assign(TABLE) == SPLITS
    assert assign(TABLE | {"0.png": "", "bad.png": "train"}) == ["", *SPLITS[1:]]


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_csv_may_be_saved_by_a_spreadsheet_of_any_country(delimiter, encoding, tmp_path):
    rows = [("File", "Split"), *TABLE.items()]
    (tmp_path / "splits.csv").write_bytes("\r\n".join(map(delimiter.join, rows)).encode(encoding))
    own = np.ones(len(FILES), bool)
    assert csv_splits.assign(faces(), own, str(tmp_path / "splits.csv"), "").tolist() == SPLITS


def test_other_columns_a_byte_order_mark_and_cells_for_spreadsheets_are_understood(assign):
    names = ["=1.png", "caf\udce9.png", *FILES[2:]]
    rows = "".join(f"{csv_cells.guard(file)},1,{split}\n" for file, split in zip(names, SPLITS, strict=True))
    assert assign(f"\ufefffile,number,split\n{rows}{rows}", faces(names)) == SPLITS


@pytest.mark.parametrize(
    "table, message, fix",
    [
        (
            {f: s for f, s in TABLE.items() if f > "4"},
            "4 of 8 images .*: 0.png, 1.png, 2.png and 1 more",
            "empty split",
        ),
        (TABLE | {"9.png": "", "a.png": "test"}, "2 of the 10 files in data.splits .* example 9.png", "no others"),
        (TABLE | {"0.png": "dev"}, "unknown split 'dev' of 0.png .*\n.*csv, line 2\n", "use train, val or test"),
        ("file,split\n0.png,train\n0.png,test\n", "0.png is in 'train' and 'test' .*\n.*csv, line 3\n", "remove one"),
        ({f: s for f, s in TABLE.items() if s != "val"} | {"4.png": "", "5.png": "train"}, "in val of", "each of"),
        (dict.fromkeys(FILES, "test"), "no image of data.source is in train or val of", "each of train, val and test"),
        ("file,group\n0.png,1\n", "cannot be read: it has no column split", "`file` and `split`"),
        ("", "cannot be read: it has no column file and no column split", "`file` and `split`"),
        ("file,split\n0.png\n", "cannot be read: line 2 is too short", "`file` and `split`"),
    ],
)
def test_a_csv_that_does_not_fit_is_an_error(assign, table, message, fix):
    with pytest.raises(DataError, match=message) as error:
        assign(table)
    assert fix in error.value.fix and "splits.csv" in error.value.where


@pytest.mark.parametrize(
    "near, shown", [((1, 6), "1.png (train) and 6.png (test)"), ((4, 3), "3.png (train) and 4.png (val)")]
)
def test_a_group_in_several_splits_is_refused_and_a_left_out_image_does_not_count(assign, near, shown):
    with pytest.raises(DataError) as error:
        assign(TABLE, faces(near=near))
    assert f"1 group of near-duplicates lies in several splits of data.splits, for example {shown}" in error.value.what
    left_out = TABLE | {FILES[near[1]]: ""}
    assert assign(left_out, faces(near=near)) == list(left_out.values())
    assert assign(TABLE, faces(near=(0, 1))) == SPLITS


def test_further_sources_train_except_near_duplicates_of_val_and_test(assign):
    own, more = [f"own/{f}" for f in FILES], [f"more/{i}.png" for i in range(4)]
    source = faces([*own, *more])
    source.group[[8, 9, 10]] = source.group[[0, 4, 6]]
    joined = [*SPLITS, "train", "", "", "train"]
    kinds = [True] * 8 + [False] * 4
    named = dict(zip(own, SPLITS, strict=True))
    assert assign(TABLE, source, kinds, "own/") == assign(named, source, kinds, "own/") == joined
    assert assign(named | {more[0]: "", more[3]: "train"}, source, kinds, "own/") == [*SPLITS, "", "", "", "train"]
    with pytest.raises(DataError, match="1 images of data.train_on are in val or test of data.splits.* more/3.png"):
        assign(named | {more[3]: "val"}, source, kinds, "own/")


def test_a_further_image_between_two_own_ones_does_not_join_their_groups(assign):
    source = faces([*FILES, "more.png"])
    source.group[[0, 7, 8]] = 99  # near both
    assert assign(TABLE, source, [True] * 8 + [False]) == [*SPLITS, ""]
