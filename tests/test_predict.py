"""agegender predict: every picture of any folder gets its rows."""

import collections
import csv
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import predicted_photos
import programs
import pytest
import small_weights
from browser import MISSING, Browser, find
from predicted_photos import HOSTILE, run

from agegender_jax import weights
from agegender_jax.data.listing import Unreadable
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.report import gallery
from agegender_jax.run.pictures import jsonl_csv_rows, prediction_rows
from agegender_jax.run.pictures.picture_files import open_pictures
from agegender_jax.weights import cards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return predicted_photos.write(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory):
    path = small_weights.write(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", path)
        yield path


@pytest.fixture(scope="module")
def predicted(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "answers"
    rows, summary = run([folder], out, annotate=True, gallery=True, over=[18, 60], coverage=0.8)
    return {name.removeprefix(f"{folder}/"): parts for name, parts in rows.items()}, summary, out


def test_every_picture_of_a_mixed_folder_has_its_rows(predicted):
    rows, summary, _ = predicted
    assert rows.keys() == {
        *("one.png", "crowd.png", "none.png", "sub/deeper/jpeg.JPG", *HOSTILE),
        *(f"bad/{name}" for name in ("empty.jpg", "text.jpg", "cut.png", "bomb.png", "pipe.jpg")),
        *("bad/folder.jpg", "bad/outside.jpg"),
    }
    statuses = {name: parts[0]["status"] for name, parts in rows.items()}
    assert {name for name, status in statuses.items() if status == "unreadable"} == {n for n in rows if n[:3] == "bad"}
    reasons = {name[4:]: parts[0]["reason"] for name, parts in rows.items() if name.startswith("bad/")}
    expected = {"empty.jpg": "empty", "cut.png": "truncated", "bomb.png": "megapixels", "text.jpg": "not a JPEG"}
    expected |= {"pipe.jpg": "not a regular file", "folder.jpg": "a folder", "outside.jpg": "outside"}
    assert all(text in reasons[name] for name, text in expected.items())
    assert statuses["none.png"] == "no_face" and len(rows["crowd.png"]) == 3 and len(rows["one.png"]) == 1
    assert summary["pictures"] == len(rows) and summary["faces"] == 10 and sum(summary["statuses"].values()) == 18


@pytest.mark.parametrize("name", ["predictions.csv", "summary.json", "gallery.html", "annotated/own.jpg"])
def test_a_file_of_the_user_stays(name, folder, tmp_path):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    with pytest.raises(ConfigError, match="--out holds a file that this command did not write") as error:
        run([folder / "one.png"], tmp_path)
    assert own.read_text() == "mine" and error.value.where == str(own)


def test_a_row_has_every_field_of_its_face(predicted):
    rows, *_ = predicted
    (row,) = rows["one.png"]
    assert list(row) == [*prediction_rows.columns([18, 60]), "state"]
    assert row["age_low"] <= row["age_years"] <= row["age_high"] and row["coverage"] == 0.8
    assert sum(row[f"p_age_{i}"] for i in range(12)) == pytest.approx(1, abs=1e-5)
    assert row["gender"] == ("female" if row["p_female"] > 0.5 else "male")
    assert row["p_over_18"] > row["p_over_60"] and row["over_18"] in ("yes", "no", "unsure")
    assert row["weights"] == "default" and row["schema"] == 1 and row["flags"] == []
    x, y, width, height = row["box"]
    assert 0 < x < 40 and 40 < width < 96 and len(row["landmarks"]) == 5 and row["score"] > 0.7
    assert [part["face"] for part in rows["crowd.png"]] == [0, 1, 2] and rows["crowd.png"][0]["faces"] == 3


def test_hostile_names_do_no_harm(predicted):
    _, _, out = predicted
    text = (out / "predictions.csv").read_bytes().decode()
    assert "\x1b" not in text
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == len(text.splitlines()) - 1  # no name breaks a line
    page = (out / "gallery.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page and "\x1b" not in page
    assert "http" not in re.sub(r"data:image/jpeg;base64,[\w+/=]*", "", page)
    assert page.count("data:image/jpeg") == 10 and page.count("<figure") == 18
    copies = [path.name for path in (out / "annotated").iterdir()]
    assert len(copies) == 8 and all(re.fullmatch(r"[\w.-]+\.jpg", name) for name in copies)
    assert jsonl_csv_rows.cell("=1+1") == "'=1+1" and jsonl_csv_rows.cell([1.5, 2]) == "1.5 2"


def test_hostile_relative_names_in_the_table_and_on_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [name.replace("/", "") for name in HOSTILE]
    for name in names:
        (tmp_path / name).touch()
    run(names, tmp_path / "out", weights="one")
    table = (tmp_path / "out" / "predictions.csv").read_text()
    cells = [row["file"] for row in csv.DictReader(io.StringIO(table))]
    assert len(cells) == len(names) and not any(cell.startswith(tuple("=+-@\t\r")) for cell in cells)
    assert [cell[1:] for cell in cells if cell[1:] in names] == [name for name in names if name[0] in "=-@"]
    (escapes,) = (name for name in names if "\x1b" in name)
    with pytest.raises(DataError) as error:
        run([escapes], tmp_path / "out", weights="one", strict=True)
    printed = capsys.readouterr().out + str(error.value)
    assert "\x1b" not in printed and printed.count(r"\x1b[2Jline\nbreak.png: empty file") == 2
    summary = "5 pictures (5 by an earlier call), 0 faces: 5 unreadable; 0.0 pictures per second, 0.0 faces per second"
    assert summary in printed.splitlines()


def test_nets_without_thresholds_warn(folder, shipped, tmp_path, capsys):
    card = json.loads((shipped / "one.json").read_text())
    cards.write(tmp_path / "one.json", card | {"calibration": None})
    (tmp_path / "one.safetensors").write_bytes((shipped / "one.safetensors").read_bytes())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "none.png").write_bytes((folder / "none.png").read_bytes())
    (tmp_path / "photos" / "others.zip").touch()
    run([tmp_path / "photos"], tmp_path / "out", weights="one", weights_dir=str(tmp_path))
    printed = capsys.readouterr().out
    assert "WARNING: these nets have no thresholds" in printed and "WARNING: not read: " in printed


def test_the_commands_of_the_readme_after_one_for_a_photo(folder, tmp_path, monkeypatch, capsys):
    """Commands with one --out, one after the other, as of a reader who tries a photo first."""
    commands = re.findall(r"^agegender predict (.+)$", (programs.ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands and "--gallery" in commands[-1].split() and "photos/" in commands[-1].split()
    (tmp_path / "photos").mkdir()
    for name, source in (("photo.jpg", "one.png"), ("photos/a.png", "crowd.png"), ("photos/b.png", "none.png")):
        (tmp_path / name).write_bytes((folder / source).read_bytes())
    monkeypatch.chdir(tmp_path)
    for command in ("photo.jpg", *commands):
        words = command.split()
        options = dict((word[2:].split("=") + [True])[:2] for word in words if word.startswith("--"))
        options |= {"out": tmp_path / "answers", "weights": "one"}
        rows, summary = run([word for word in words if not word.startswith("--")], **options)
    assert rows.keys() == {"photo.jpg", "photos/a.png", "photos/b.png"} and summary["not_named"] == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "pictures per second" in line or "--out" in line]
    assert lines[-2].startswith("3 pictures (1 by an earlier call), 4 faces: ") and ", 1 no_face; " in lines[-2]
    assert lines[-1].startswith("included: 1 picture of earlier calls that this one does not name; another --out")
    page = (tmp_path / "answers" / "gallery.html").read_text()
    assert page.count("data:image/jpeg") == 4 and page.count("<figure") == 5


def test_archives_globs_and_lists_give_the_same_rows(folder, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar, zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("one.png", "crowd.png"):
            tar.add(folder / name, name)
            archive.write(folder / name, name)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{folder}/one.png\nabsent.png\n".encode())))
    paths = [tmp_path / "a.tar.gz", tmp_path / "b.zip", f"{folder}/[o]*.png", "-", folder / "crowd.png"]
    rows, summary = run(paths, tmp_path / "out")
    assert summary["statuses"]["unreadable"] == 1 and rows["absent.png"][0]["reason"] == "no such file"
    ones = [rows[f"{source}/one.png"] for source in (tmp_path / "a.tar.gz", tmp_path / "b.zip", folder)]
    crowds = [rows[f"{source}/crowd.png"] for source in (tmp_path / "a.tar.gz", tmp_path / "b.zip", folder)]
    for parts in (ones, crowds):
        values = np.array([[[row["p_female"], row["age_years"]] for row in part] for part in parts])
        np.testing.assert_allclose(values, values[:1].repeat(3, 0), atol=1e-3)


def test_the_last_of_equal_members_and_broken_links_of_a_glob(folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder / "bad" / "text.jpg", "one.png")
        tar.add(folder / "one.png", "one.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "absent.png")
    (tmp_path / "folders" / "empty").mkdir(parents=True)
    with open_pictures([str(tmp_path / "a.tar"), str(tmp_path / "*.png")]) as pictures:
        first, second = pictures
        assert first.source() == (folder / "one.png").read_bytes()
        with pytest.raises(Unreadable, match="no such file"):
            second.source()()
    with pytest.raises(DataError, match="no file matches"), open_pictures([str(tmp_path / "folders" / "*")]):
        pass
    with pytest.raises(DataError, match="no such picture"), open_pictures(["x" * 300 + ".png"]):
        pass


def test_boxes_and_no_detector(folder, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({f"{folder}/crowd.png": [[20, 20, 90, 120], [150, 10, 100, 120]]}))
    rows, _ = run([folder / "crowd.png", folder / "one.png"], tmp_path / "a", boxes=str(tmp_path / "boxes.json"))
    assert [row["box"] for row in rows[f"{folder}/crowd.png"]] == [[20, 20, 90, 120], [150, 10, 100, 120]]
    assert rows[f"{folder}/one.png"][0]["status"] == "no_face"
    rows, _ = run([folder / "none.png"], tmp_path / "b", detector="none")
    assert rows[f"{folder}/none.png"][0]["box"] == [15, 0, 90, 90] and rows[f"{folder}/none.png"][0]["score"] is None


def test_user_errors(folder, tmp_path):
    with pytest.raises(DataError, match="no such picture"):
        run([tmp_path / "absent.jpg"], tmp_path / "out")
    with pytest.raises(DataError, match="no file matches"):
        run([tmp_path / "*.jpg"], tmp_path / "out")
    with pytest.raises(DataError, match="no picture in the folder"):
        run([tmp_path], tmp_path / "out")
    with pytest.raises(ConfigError, match="no picture is named"):
        run([], tmp_path / "out")
    (tmp_path / "boxes.json").write_text('{"a.jpg": [[1, 2, 3]]}')
    with pytest.raises(ConfigError, match="a box is not"):
        run([folder / "one.png"], tmp_path / "out", boxes=str(tmp_path / "boxes.json"))
    with pytest.raises(ConfigError, match="inside a folder of pictures"):
        run([folder], folder / "answers", annotate=True)
    with pytest.raises(ConfigError, match="inside a folder of pictures"):
        run([folder / "**" / "one.png"], folder / "answers", annotate=True)
    with pytest.raises(DataError, match="1 of 2 files could not be read") as error:
        run([folder / "one.png", folder / "bad" / "text.jpg"], tmp_path / "strict", strict=True)
    assert error.value.where == f"{folder / 'bad' / 'text.jpg'}: not a JPEG, PNG, WEBP, BMP or GIF image"
    assert len((tmp_path / "strict" / "predictions.jsonl").read_text().splitlines()) == 2


def test_missing_weights_are_an_error_with_a_fix(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"ships no weights[\s\S]*launch.train"):
        run([folder / "one.png"], tmp_path / "out")


def test_the_page_shows_the_least_confident_and_survives_an_unfinished_line(predicted, tmp_path, monkeypatch):
    _, summary, out = predicted
    stored = (out / "thumbnails.jsonl").read_bytes()
    monkeypatch.setattr(gallery, "MOST", 12)
    rows = list(jsonl_csv_rows.read(out / "predictions.jsonl"))
    (tmp_path / "thumbnails.jsonl").write_bytes(b'{"file": "unfinished' + stored)
    gallery.write(tmp_path / "page.html", iter(rows), tmp_path / "thumbnails.jsonl", summary)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 10 and page.count("<figure") == 18 and "left out" not in page
    shown = [int(text) for text in re.findall(r"<b>\w+ (\d+) %", page)]
    assert shown == sorted(shown) and len(shown) == 10
    monkeypatch.setattr(gallery, "MOST", 6)
    gallery.write(tmp_path / "page.html", iter(rows), tmp_path / "thumbnails.jsonl", summary)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 6 and page.count("<figure") == 12
    assert "The 4 most confident faces are left out." in page
    assert "2 pictures without a prediction are left out." in page and 'class="unreadable"' in page
    fewer = [int(text) for text in re.findall(r"<b>\w+ (\d+) %", page)]
    assert fewer == shown[:6]


@pytest.mark.slow
@pytest.mark.skipif(not find(), reason=MISSING)
def test_the_page_hides_rows_of_a_status(predicted, tmp_path):
    _, summary, out = predicted
    counts = {status: count for status, count in summary["statuses"].items() if count}
    assert len(counts) > 1
    shown = "[...document.querySelectorAll('figure')].filter(f => f.offsetParent).map(f => f.className)"
    with Browser(find(), tmp_path / "profile") as page:
        page.open((out / "gallery.html").as_uri(), 1280, 900, dark=False)

        def classes(before=""):
            result = page.call("Runtime.evaluate", expression=f"{before}{shown}", returnByValue=True)
            return dict(collections.Counter(result["result"]["value"]))

        assert classes() == counts
        for hidden in counts:
            click = f"document.querySelector('#show_{hidden}').click(); "
            assert classes(click) == {status: count for status, count in counts.items() if status != hidden}
            assert classes(click) == counts
        assert page.complaints() == [] and [url for url in page.requests() if not url.startswith("file:")] == []


def test_help_is_quick_and_a_typo_is_named(tmp_path):
    done = programs.run("predict", "--help")
    assert done.returncode == 0 and "--over" in done.stdout and "jax" not in done.stderr, done.stderr
    done = programs.run("predict", "a.jpg", f"--over=18,{'9' * 5000}")
    programs.check(done, 2, "not an age", "--over=18,25")


@pytest.mark.slow
def test_memory_is_flat_over_5000_pictures(folder, shipped, tmp_path):
    """Reports the peak memory of a process for 500 and for 5,000 pictures."""
    program = (
        "import pathlib, resource, sys; from agegender_jax import weights; from agegender_jax.run import predict; "
        "weights.FOLDER = pathlib.Path(sys.argv[1]); "
        "predict.predict([sys.argv[2]], workdirs=[], out=sys.argv[3], batch_size=32); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for count in (500, 5000):
        pictures = tmp_path / str(count)
        pictures.mkdir()
        for i in range(count):
            os.link(folder / "one.png", pictures / f"{i:05}.png")
        command = [sys.executable, "-c", program, str(shipped), str(pictures), str(tmp_path / f"out{count}")]
        done = subprocess.run(command, cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[count] = int(done.stdout.split()[-1]) / 1024
        rows = (tmp_path / f"out{count}" / "predictions.jsonl").read_text().splitlines()
        assert len(rows) == count and '"ok"' in rows[-1]
    print(f"peak memory in MB by number of pictures: {peaks}")
    assert peaks[5000] < peaks[500] + 60
