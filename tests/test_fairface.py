from pathlib import Path

import pytest
from source_files import FORMS, reasons, write

from agegender_jax.data import sources
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


def test_fairface_rows_that_label_nothing(tmp_path):
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
        "1.jpg": "unknown race 'Martian' in the CSV",
        "2.jpg": "unknown age group '51' in the CSV",
        "3.jpg": "unknown gender '' in the CSV",
        "4.jpg": "unknown age group '' in the CSV",
        "5.jpg": "listed twice in a CSV, with different labels",
        "6.jpg": "name has 1 of the 4 parts age_gender_race_date",
        "7.jpg": sources.NOT_THERE,
        "../secret.jpg": "its path in the CSV leads outside the source",
        "/etc/secret.jpg": "its path in the CSV leads outside the source",
    }


def test_a_csv_named_itself_gives_what_it_lists(tmp_path):
    folder = Path(fairface("folder", tmp_path)) / "fairface"
    (folder / "train/extra.jpg").write_bytes(b"")
    (folder / "train/3.jpg").unlink()
    (folder / "some.csv").write_text(FAIRFACE + "../secret.jpg,20-29,Male,White,True\n")
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    found = reasons(str(folder / "some.csv"))
    assert set(found) == {f"{i}.jpg" for i in range(1, 7)} | {"../secret.jpg"} and found["1.jpg"] is None
    assert found["3.jpg"] and found["../secret.jpg"]
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no FairFace rows"):
        list(sources.read(str(folder / "other.csv")))
