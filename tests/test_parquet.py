"""Pictures in Parquet files, and rows of predictions as Parquet files."""

import functools
import os
import threading
import time

import drawn_photos
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agegender_jax.data.listing import LINK_OUTSIDE, NOT_REGULAR, Unreadable
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.errors import DataError
from agegender_jax.prediction.face import NO_FACE, OK, UNREADABLE, Face, Picture
from agegender_jax.prediction.faces_from_probs import FacesFromProbs
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.pictures import parquet_columns, prediction_rows, prediction_summary
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.pictures.parquet_rows import RowParts, write_csv
from agegender_jax.run.pictures.picture_files import open_pictures, sources

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


def bytes_of(source):
    return source if isinstance(source, bytes) else source()


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
        assert [bytes_of(picture.source()) for picture in pictures[3::-1]] == contents[3::-1]
        names = {"bytes": f"{file}/3.png", "struct": f"{file}/3", "paths": str(paths[3])}
        assert pictures[3].name == names[kind] and pictures[3].state and len(pictures) == 5
        if kind != "struct":
            with pytest.raises(Unreadable, match="no bytes in the row|no such file"):
                bytes_of(pictures[4].source())


def test_predictions_beside_the_tables_are_not_read_as_tables(tmp_path):
    """--out may be in the folder; their column `file` would be one of paths."""
    image = drawn_photos.encode(drawn_photos.background(8, 8))
    pq.write_table(pa.table({"image": [image] * 2}), tmp_path / "x.parquet")
    with open_pictures([str(tmp_path)]) as pictures:
        before = [(picture.name, picture.state) for picture in pictures]
    (tmp_path / "answers" / "predictions").mkdir(parents=True)
    (tmp_path / "answers" / "predict.json").write_text("{}")
    rows = pa.table({"file": [name for name, _ in before]})
    pq.write_table(rows, tmp_path / "answers" / "predictions" / "part-00000.parquet")
    with open_pictures([str(tmp_path)]) as pictures:
        assert [(picture.name, picture.state) for picture in pictures] == before
    with open_pictures([str(tmp_path / "answers" / "predictions")]) as pictures:  # named as such
        assert [picture.name for picture in pictures] == [name for name, _ in before]


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


def write_pictures(path, *rows, column="image", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: pa.array(rows)}), path, **options)
    return path


def test_links_in_a_folder_are_followed_if_they_stay_inside(tmp_path):
    folder, outside = tmp_path / "ds", write_pictures(tmp_path / "outside.parquet", b"secret")
    write_pictures(folder / "a.parquet", b"a")
    (folder / "b.parquet").symlink_to("a.parquet")
    (folder / "c.parquet").symlink_to(outside)
    with open_pictures([str(folder)]) as pictures:
        read = [(picture.name.removeprefix(f"{folder}/"), picture.entry.reason) for picture in pictures]
        assert read == [("a.parquet/0", None), ("b.parquet/0", None), ("c.parquet", LINK_OUTSIDE)]
        assert [bytes_of(picture.source()) for picture in pictures[:2]] == [b"a", b"a"]
        with pytest.raises(Unreadable, match=LINK_OUTSIDE):
            bytes_of(pictures[2].source())
    with open_pictures([str(folder / "c.parquet")]) as (named,):  # a link that is an argument is followed
        assert bytes_of(named.source()) == b"secret"


def test_what_is_no_file_in_a_folder_has_a_reason(tmp_path):
    (tmp_path / "a.parquet").symlink_to("nothing")
    os.mkfifo(tmp_path / "b.parquet")
    write_pictures(tmp_path / ".hidden" / "c.parquet", b"c")
    read = []

    def list_folder():
        with open_pictures([str(tmp_path)]) as pictures:
            read.extend((os.path.basename(picture.name), picture.entry.reason) for picture in pictures)

    thread = threading.Thread(target=list_folder, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and read == [("a.parquet", "a link to nothing"), ("b.parquet", NOT_REGULAR)]


def test_a_folder_with_the_suffix_is_a_folder_of_parts(tmp_path):
    for i in range(2):
        write_pictures(tmp_path / "ds" / "table.parquet" / f"part-{i}.PARQUET", b"%d" % i)
    (tmp_path / "ds" / "table.parquet" / "_SUCCESS").touch()
    for argument in ("ds", "ds/table.parquet"):
        with open_pictures([str(tmp_path / argument)]) as pictures:
            assert [bytes_of(picture.source()) for picture in pictures] == [b"0", b"1"]


@pytest.mark.parametrize("column", ["image", "path"])
def test_a_row_group_that_unpacks_to_far_more_than_the_file_is_refused(column, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_columns, "UNPACKED", 2**22)
    for i, rows in enumerate([(bytes(2**22),), (bytes(2**20), bytes(2**20 + 1)) * 3]):
        texts = rows if column == "image" else [row.decode() for row in rows]
        options = {"column": column, "use_dictionary": False, "compression": "zstd"}
        file = write_pictures(tmp_path / f"{i}.parquet", *texts, **options)
        assert file.stat().st_size < 2**16
        with pytest.raises(DataError, match=f"column {column} of row group 0 unpacks to more than 4 MiB") as raised:
            open_pictures([str(file)]).__enter__()
        assert "smaller row groups" in raised.value.fix and raised.value.where == str(file)


def test_values_of_a_dictionary_are_unpacked_one_at_a_time(tmp_path, monkeypatch):
    """A dictionary of one value and its indices take few bytes for any number of rows."""
    monkeypatch.setattr(parquet_columns, "UNPACKED", 2**22)
    large = bytes(2**20)
    file = write_pictures(tmp_path / "a.parquet", *[large] * 100, dictionary_pagesize_limit=2**22)
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    with open_pictures([str(file)]) as pictures:
        assert len(pictures) == 100
        for picture in pictures:
            assert bytes_of(picture.source()) == large
            most = max(most, pool.bytes_allocated() - before)
    assert most < 2**23
    paths = write_pictures(tmp_path / "b.parquet", *["x" * 2**20] * 100, column="path", dictionary_pagesize_limit=2**22)
    with pytest.raises(DataError, match="column path of row group 0 unpacks to more than 4 MiB"):
        open_pictures([str(paths)]).__enter__()


def test_pictures_that_hardly_compress_may_be_in_a_large_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_columns, "UNPACKED", 2**10)
    rows = [os.urandom(2**12) for _ in range(8)]
    with open_pictures([str(write_pictures(tmp_path / "a.parquet", *rows))]) as pictures:
        assert [bytes_of(picture.source()) for picture in pictures] == rows


def test_a_small_file_with_very_many_rows_is_refused(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.nulls(parquet_columns.ROWS + 1, pa.binary())}), file)
    with pytest.raises(DataError, match="claims to have more than 1048576 rows"):
        open_pictures([str(file)]).__enter__()


def test_damaged_paths_and_columns_of_one_name_are_errors(tmp_path):
    names = [f"{i}.png" for i in range(1000)]
    damaged = bytearray(write_pictures(tmp_path / "a.parquet", *names, column="path").read_bytes())
    damaged[8:200] = b"\xff" * 192
    (tmp_path / "a.parquet").write_bytes(damaged)
    pq.write_table(pa.table([pa.array([b"a"]), pa.array([b"b"])], names=["image", "image"]), tmp_path / "b.parquet")
    for name, message in (("a", "damaged"), ("b", "no column with pictures")):
        with pytest.raises(DataError, match=message), open_pictures([str(tmp_path / f"{name}.parquet")]):
            pass


def test_a_damaged_row_group_costs_its_own_rows_and_is_read_once(tmp_path, monkeypatch):
    rows = [os.urandom(2000) for _ in range(30)]
    file = write_pictures(tmp_path / "a.parquet", *rows, row_group_size=10, use_dictionary=False)
    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    damaged = bytearray(file.read_bytes())
    damaged[start : start + 40] = b"\xff" * 40
    file.write_bytes(damaged)
    read, values = [], parquet_columns.Table.values
    monkeypatch.setattr(
        parquet_columns.Table, "values", lambda self, column, group: read.append(group) or values(self, column, group)
    )
    with open_pictures([str(file)]) as pictures:
        for i, picture in enumerate(pictures):
            if i // 10 == 1:
                with pytest.raises(Unreadable, match="cannot be read: damaged"):
                    bytes_of(picture.source())
            else:
                assert bytes_of(picture.source()) == rows[i]
    assert read == [0, 1, 2]


def test_threads_unpack_a_row_group_once_and_a_new_file_is_read_anew(tmp_path, monkeypatch):
    read, iter_batches = [], pq.ParquetFile.iter_batches

    class Counting(pq.ParquetFile):
        def iter_batches(self, *args, **options):
            read.append(threading.get_ident())
            time.sleep(0.05)
            return iter_batches(self, *args, **options)

        def read_row_group(self, *args, **options):
            read.append(threading.get_ident())
            time.sleep(0.05)
            return super().read_row_group(*args, **options)

    monkeypatch.setattr(pq, "ParquetFile", Counting)
    for seed in range(2):
        rows = [b"%d" % (i + 100 * seed) for i in range(60)]
        file = write_pictures(tmp_path / "a.parquet", *rows, row_group_size=20)
        with open_pictures([str(file)]) as pictures:
            assert list(parallel_map(lambda item: bytes_of(item[1]), sources(pictures, None), threads=16)) == rows
        assert len(read) == 3 * (seed + 1)


def test_a_program_may_end_within_a_row_group(tmp_path, monkeypatch):
    values = parquet_columns.Table(write_pictures(tmp_path / "a.parquet", b"a", b"b")).values("image", 0)
    assert next(values) == b"a"
    monkeypatch.setattr(pa, "ArrowException", None)  # as Python leaves modules at its end
    values.close()


def test_rows_of_undecodable_names_are_found(tmp_path, capsys):
    """A row in Parquet has such a name in another form."""
    name = os.fsdecode(b"\xff.png")
    bad = Picture(name, UNREADABLE, "damaged", ())
    (tmp_path / "local").mkdir()
    with RowFiles(tmp_path / "local", "predictions", COLUMNS, {name: None}) as files:
        files.write(rows([bad]))
    (tmp_path / "ray").mkdir()
    RowParts(tmp_path / "ray" / "predictions", COLUMNS, {name: None}).write(rows([bad]))
    for engine in ("local", "ray"):
        with pytest.raises(DataError, match="1 of 2 files could not be read") as raised:
            prediction_summary.check_all_read(tmp_path / engine, {name, "good.png"})
        assert raised.value.code == 3
        prediction_summary.check_all_read(tmp_path / engine, {"good.png"})
        with Progress() as progress:
            prediction_summary.show(tmp_path / engine, name, (), progress)
        assert ".png: damaged" in capsys.readouterr().out
