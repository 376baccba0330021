"""Pictures in Parquet files, and rows of predictions as Parquet files."""

import functools
import os

import drawn_photos
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agegender_jax.data.listing import Unreadable
from agegender_jax.errors import DataError
from agegender_jax.prediction.face import NO_FACE, OK, UNREADABLE, Face, Picture
from agegender_jax.prediction.faces_from_probs import FacesFromProbs
from agegender_jax.run.pictures import prediction_rows
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.pictures.parquet_rows import RowParts, write_csv
from agegender_jax.run.pictures.picture_files import open_pictures

FACE = Face(
    age=31.25,
    age_interval=(20, 49),
    coverage=0.9,
    age_bucket="30-39",
    age_probs=(1 / 3, 2 / 3, *(0.0,) * 10),
    gender="female",
    p_female=0.123456789,
    box=(1.5, -2.25, 30.0, 40.0),
    score=0.9312,
    landmarks=((1.0, 2.5),) * 5,
    flags=("tilted", "child"),
    status=OK,
    over={18: {"p": 0.75, "decision": "yes"}},
    calibrated=True,
    picture="",
    sized={},
)
HOSTILE = ("=cmd.png", "\x1b[2Jä\n.png", os.fsdecode(b"\xff\xfe.png"))
PICTURES = [
    *(Picture(name, OK, "", (FACE,) * (i + 1)) for i, name in enumerate(HOSTILE)),
    Picture("none.png", NO_FACE, "", ()),
    Picture("bad.png", UNREADABLE, "damaged: +1", ()),
]
STATES = {picture.name: [1, 2, 3, 2**60] for picture in PICTURES}
COLUMNS = prediction_rows.columns([18])


def rows(pictures):
    return [row for picture in pictures for row in prediction_rows.rows(picture, "default", [18])]


def test_parts_of_other_options_are_restated(tmp_path):
    RowParts(tmp_path / "predictions", COLUMNS, STATES).write(rows(PICTURES))
    fresh = FacesFromProbs(None, 0.5, (60,), 0.01)
    columns = prediction_rows.columns([60])
    parts = RowParts(
        tmp_path / "predictions", columns, STATES, functools.partial(prediction_rows.restated, faces_from_probs=fresh)
    )
    assert parts.done == set(STATES)
    first, *_, none, bad = prediction_rows.read(tmp_path)
    assert list(first) == [*columns, "state"] and first["state"] == [1, 2, 3, 2**60]
    assert (first["age_low"], first["age_high"], first["coverage"]) == (10, 19, 0.5) and first["p_over_60"] == 0
    assert none["coverage"] is None and bad["reason"] == "damaged: +1"


def test_the_csv_of_parts_is_that_of_the_local_engine(tmp_path):
    (tmp_path / "local").mkdir()
    with RowFiles(tmp_path / "local", "predictions", COLUMNS, STATES) as files:
        for picture in PICTURES:
            files.write(rows([picture]))
    parts = RowParts(tmp_path / "predictions", COLUMNS, STATES)
    for part in (PICTURES[:2], PICTURES[2:]):
        parts.write(rows(part))
    write_csv(tmp_path / "predictions.csv", COLUMNS, prediction_rows.read(tmp_path))
    assert (tmp_path / "predictions.csv").read_bytes() == (tmp_path / "local" / "predictions.csv").read_bytes()
    assert (tmp_path / "predictions.csv").read_bytes().count(b"\n") == 9
    assert RowParts(tmp_path / "predictions", COLUMNS, STATES).done == STATES.keys()
    table = pq.read_table(tmp_path / "predictions")  # one data set, for any program
    assert table.num_rows == 8 and table["box"][0].as_py() == list(FACE.box) and table["p_over_18"][7].as_py() is None


def test_rows_of_changed_pictures_are_removed_and_new_parts_come_last(tmp_path):
    parts = RowParts(tmp_path, COLUMNS, STATES)
    parts.write(rows(PICTURES[:3]))
    parts.write(rows(PICTURES[3:]))
    again = RowParts(tmp_path, COLUMNS, STATES | {HOSTILE[1]: [9, 9, 9, 9]})
    assert again.done == STATES.keys() - {HOSTILE[1]}
    again.write(rows([PICTURES[1]]))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"part-0000{i}.parquet" for i in range(3)]
    table = pq.read_table(tmp_path)
    assert table.num_rows == len(rows(PICTURES)) and table["state"].to_pylist()[-1] == [9, 9, 9, 9]
    (tmp_path / "part-00001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match="a part of the predictions is damaged"):
        RowParts(tmp_path, COLUMNS, STATES)


@pytest.mark.parametrize("kind", ["bytes", "struct", "paths"])
def test_rows_of_a_parquet_file_are_pictures(kind, tmp_path):
    contents = [drawn_photos.encode(drawn_photos.background(8, 8, seed)) for seed in range(5)]
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    columns = {
        "bytes": {"image": [*contents[:4], None], "path": [path.name for path in paths]},
        "struct": {"image": [{"bytes": content, "path": None} for content in contents]},
        "paths": {"file": [*map(str, paths[:4]), "absent.png"], "label": range(5)},
    }[kind]
    file = tmp_path / "tables" / "some.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table(columns), file, row_group_size=2)
    with open_pictures([str(file.parent)]) as pictures:
        assert [picture.source()() for picture in pictures[3::-1]] == contents[3::-1]
        names = {"bytes": f"{file}/3.png", "struct": f"{file}/3", "paths": str(paths[3])}
        assert pictures[3].name == names[kind] and pictures[3].state and len(pictures) == 5
        if kind != "struct":
            with pytest.raises(Unreadable, match="no bytes in the row|no such file"):
                pictures[4].source()()


def test_files_without_pictures_are_errors(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    for name, message in (("a", "no column with pictures; there are text, label"), ("b", "no Parquet file")):
        with pytest.raises(DataError, match=message), open_pictures([str(tmp_path / f"{name}.parquet")]):
            pass


def test_equal_paths_in_a_column_do_not_hide_pictures(tmp_path):
    pq.write_table(pa.table({"bytes": [b"a", b"b"], "path": ["x.png", "x.png"]}), tmp_path / "a.parquet")
    with open_pictures([str(tmp_path / "a.parquet")]) as pictures:
        assert [picture.name for picture in pictures] == [f"{tmp_path}/a.parquet/0", f"{tmp_path}/a.parquet/1"]
