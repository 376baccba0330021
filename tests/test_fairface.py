import shutil
from pathlib import Path

import pytest
from PIL import Image
from source_files import DATE, FORMS, reasons, write

from agegender_jax import synthetic
from agegender_jax.data import csv_labels, sources
from agegender_jax.data.prepare import prepare
from agegender_jax.errors import DataError

FAIRFACE = """file,age,gender,race,service_test
train/1.jpg,50-59,Male,East Asian,True
train/2.jpg,0-2,Female,Indian,False
train/3.jpg,3-9,Female,Latino_Hispanic,False
train/4.jpg,more than 70,Male,Middle Eastern,False
train/5.jpg,10-19,Female,Southeast Asian,False
train/6.jpg,20-29,Male,Black,False
"""


def fairface(form: str, tmp_path: Path, text: str = FAIRFACE, encoding: str = "utf-8") -> str:
    files = {f"fairface/train/{i}.jpg": b"%d" % i for i in range(1, 7)}
    return write(form, tmp_path, files | {"fairface/labels.csv": text.encode(encoding)})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_fairface(form, encoding, tmp_path):
    items = list(sources.read(fairface(form, tmp_path, encoding=encoding)))
    assert [item.file for item in items] == [f"{i}.jpg" for i in range(1, 7)]
    assert [item.data for item in items] == [b"1", b"2", b"3", b"4", b"5", b"6"]
    labels = [item.label for item in items]
    assert [(label.age_text, label.age_first, label.age_last) for label in labels] == [
        ("50-59", 5, 5),
        ("0-2", 0, 0),
        ("3-9", 0, 0),
        ("more than 70", 7, 11),
        ("10-19", 1, 1),
        ("20-29", 2, 2),
    ]
    assert {label.age_years for label in labels} == {-1}
    assert [label.gender for label in labels] == [0, 1, 1, 0, 1, 0]
    assert [label.race for label in labels] == [2, 3, 4, 4, 2, 1]
    assert labels[2].race_text == "Latino_Hispanic" and labels[4].race_text == "Southeast Asian"


def test_fairface_rows_without_a_usable_label(tmp_path):
    rows = [
        "file,age,gender,race",
        "train/1.jpg,50-59,Male,Martian",
        "train/2.jpg,51,Female,Indian",
        "train/3.jpg,3-9,,Black",
        "train/4.jpg",
        "train/5.jpg,10-19,Female,White",
        "train/5.jpg,20-29,Female,White",
        "train/7.jpg,20-29,Female,White",
        "../../secret.jpg,20-29,Female,White",
        "/etc/secret.jpg,20-29,Female,White",
        "",
    ]
    assert reasons(fairface("tar", tmp_path, "\r\n".join(rows))) == {
        "1.jpg": "unknown race 'Martian' in line 2 of the CSV",
        "2.jpg": "unknown age group '51' in line 3 of the CSV",
        "3.jpg": "unknown gender '' in line 4 of the CSV",
        "4.jpg": "unknown age group '' in line 5 of the CSV",
        "5.jpg": "listed twice in a CSV, with different labels",
        "6.jpg": "name has 1 of the 4 parts age_gender_race_date",
        "7.jpg": csv_labels.NOT_THERE,
        "../secret.jpg": "its path in the CSV leads outside the source",
        "/etc/secret.jpg": "its path in the CSV leads outside the source",
    }


def test_a_csv_as_the_source_contains_the_files_that_it_lists(tmp_path):
    folder = Path(fairface("folder", tmp_path)) / "fairface"
    (folder / "train/extra.jpg").write_bytes(b"")
    (folder / "train/3.jpg").unlink()
    (folder / "some.csv").write_text(FAIRFACE + "../secret.jpg,20-29,Male,White,True\n")
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    result = reasons(str(folder / "some.csv"))
    assert set(result) == {f"{i}.jpg" for i in range(1, 7)} | {"../secret.jpg"} and result["1.jpg"] is None
    assert result["3.jpg"] and result["../secret.jpg"]
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no FairFace rows in the CSV: line 1 has no column file, age, gender, race"):
        list(sources.read(str(folder / "other.csv")))


LABELS = [("50-59", 5), ("0-2", 0), ("3-9", 0), ("more than 70", 7), ("10-19", 1), ("20-29", 2)]
DIALECTS = {
    "quoted": ('"' + FAIRFACE.replace(",", '","').replace("\n", '"\n"'))[:-1].encode(),
    "CRLF": FAIRFACE.replace("\n", "\r\n").encode(),
    "old Mac": FAIRFACE.replace("\n", "\r").encode(),
    "semicolons": FAIRFACE.replace(",", ";").encode("utf-8-sig"),
    "tabs": FAIRFACE.replace(",", "\t").encode("utf-16"),
    "capitals and spaces": FAIRFACE.replace("file,age,gender", "File , Age, GENDER").encode(),
    "dashes": FAIRFACE.replace("-", "\N{EN DASH}").encode(),
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS)
def test_csv_dialects(text, tmp_path):
    files = {f"train/{i}.jpg": b"" for i in range(1, 7)}
    items = list(sources.read(write("folder", tmp_path, files | {"labels.csv": text})))
    assert [(item.label.age_text, item.label.age_first) for item in items] == LABELS


def test_a_linked_csv_as_the_source(tmp_path):
    folder = Path(fairface("folder", tmp_path)) / "fairface"
    (folder / "labels.csv").rename(tmp_path / "labels_v2.dat")
    (folder / "labels.csv").symlink_to(tmp_path / "labels_v2.dat")
    assert set(reasons(str(folder / "labels.csv")).values()) == {None}


@pytest.mark.parametrize(
    "text, problem",
    [
        ("image;age;gender;race\n", "labels.csv: line 1 has no column file: 'image;age;gender;race'"),
        ("", "labels.csv: line 1 is empty"),
        (None, "labels.csv: a link to nothing"),
    ],
)
def test_pictures_without_a_label_name_the_csv_that_is_not_understood(tmp_path, text, problem):
    folder = Path(write("folder", tmp_path, {"1.jpg": b"", f"30_0_0_{DATE}": b""}))
    if text is None:
        (folder / "labels.csv").symlink_to("nowhere")
    else:
        (folder / "labels.csv").write_text(text)
    result = reasons(str(folder))
    assert result[f"30_0_0_{DATE}"] is None and problem in result["1.jpg"]


@pytest.mark.parametrize("row", ['train/1.jpg,"20-29,Male,White\n', 'train/1.jpg,"20"-29,Male,White\n'])
def test_a_row_that_cannot_be_read_is_named(tmp_path, row):
    with pytest.raises(DataError, match="the CSV cannot be read: line 8: ") as caught:
        reasons(fairface("folder", tmp_path, FAIRFACE + row))
    assert caught.value.where.endswith("fairface/labels.csv")


DAMAGED = [
    "Oct-19",
    "00-Feb",
    "9-Mar",
    "09. Mrz",
    "2019-10-01",
    "3/9/2024",
    "2019-10-01 00:00:00",
    "43739",
    "1.0E+1",
    "10月19日",
]


@pytest.mark.parametrize("packed", ["folder", "csv", "zip"])
def test_paths_as_windows_writes_them(packed, tmp_path):
    folder = tmp_path / "faces"
    (folder / "train").mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (16, 16), (90 * i, 0, 0)).save(folder / "train" / f"{i}.jpg")
    rows = [f"train\\{i}.jpg,20-29,Male,White" for i in range(2)]
    (folder / "labels.csv").write_text("\n".join(["file,age,gender,race", *rows]))
    source = {"folder": folder, "csv": folder / "labels.csv", "zip": tmp_path / "faces.zip"}[packed]
    if packed == "zip":
        shutil.make_archive(str(tmp_path / "faces"), "zip", folder)
    items = list(sources.read(str(source)))
    assert sorted(Path(item.file).name for item in items if item.label) == ["0.jpg", "1.jpg"] and len(items) == 2
    assert not any("\\" in item.file for item in items)


@pytest.mark.parametrize("age", DAMAGED)
def test_ages_that_a_spreadsheet_has_changed_are_an_error_with_a_fix(age, tmp_path):
    folder = tmp_path / "source"
    synthetic.write_faces(folder, 12, seed=0, size=32)
    names = [path.name for path in folder.iterdir()]
    for name in names:
        (folder / name).rename(folder / f"{name[-24:]}")
    rows = [f"{name[-24:]},{age if i == 7 else '20-29'},Male,White" for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["file,age,gender,race", *rows]))
    with pytest.raises(DataError, match="a spreadsheet has changed the ages of 1 images") as caught:
        prepare(str(folder), str(tmp_path / "cache"), max_bad=0.5)
    assert "line 9" in caught.value.what and "restore the CSV" in caught.value.fix and "max_bad" not in caught.value.fix


@pytest.mark.parametrize("age", ["51", "21-30", "unknown", "70+", "", "0-3"])
def test_other_unknown_ages_are_not_damage(age, tmp_path):
    text = FAIRFACE.replace("50-59", age)
    assert reasons(fairface("folder", tmp_path, text))["1.jpg"] == f"unknown age group {age!r} in line 2 of the CSV"
