"""agegender predict: every picture of any folder gets its rows, and an interrupted call resumes."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib

import drawn_photos
import numpy as np
import programs
import pytest
import small_weights

from agegender_jax import weights
from agegender_jax.data.listing import Unreadable
from agegender_jax.errors import ConfigError, DataError, Stopped
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.report import gallery
from agegender_jax.run import jsonl_csv_rows, prediction_rows
from agegender_jax.run.jsonl_csv_rows import RowFiles
from agegender_jax.run.picture_files import open_pictures, read_boxes
from agegender_jax.run.predict import predict
from agegender_jax.run.workdir import hold
from agegender_jax.weights import cards

HOSTILE = ("=cmd|' /C calc'!A0.png", "<img src=x onerror=alert(1)>.png", "\x1b[2Jline\nbreak.png", "-x.png", "@a.png")


def bomb(png):
    """Return a PNG whose header claims 200,000 x 200,000 pixels."""
    header = png[12:16] + (200_000).to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of 0, 1 and 3 faces, every kind of bad file, and hostile names."""
    root = tmp_path_factory.mktemp("photos")
    face, empty = drawn_photos.face(size=96), drawn_photos.background(90, 120)
    crowd = drawn_photos.background(160, 420)
    for i in range(3):
        crowd = drawn_photos.paste(crowd, drawn_photos.face(2 + i), (70 + 140 * i, 80), 130)
    good = drawn_photos.encode(face)
    contents = {
        "one.png": good,
        "crowd.png": drawn_photos.encode(crowd),
        "none.png": drawn_photos.encode(empty),
        "sub/deeper/jpeg.JPG": drawn_photos.encode(face, "JPEG", quality=95),
        "bad/empty.jpg": b"",
        "bad/text.jpg": b"<html>not a picture</html>",
        "bad/cut.png": good[: len(good) // 2],
        "bad/bomb.png": bomb(good),
        "notes.txt": b"no picture",
        ".hidden.png": good,
        **dict.fromkeys(HOSTILE, good),
    }
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo(root / "bad" / "pipe.jpg")
    (root / "bad" / "folder.jpg").mkdir()
    (root / "bad" / "outside.jpg").symlink_to("/etc/passwd")
    (root / "bad" / "loop").symlink_to(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory):
    path = small_weights.write(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", path)
        yield path


def run(paths, out, **options):
    """Return the rows of predictions.jsonl by file, and the summary."""
    summary = predict([str(path) for path in paths], workdirs=[], out=str(out), **options)
    rows = {}
    for line in (out / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["file"], []).append(row)
    return rows, summary


@pytest.fixture(scope="module")
def answered(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "answers"
    rows, summary = run([folder], out, annotate=True, gallery=True, over=[18, 60], coverage=0.8)
    return {name.removeprefix(f"{folder}/"): parts for name, parts in rows.items()}, summary, out


def test_every_picture_of_a_mixed_folder_has_its_rows(answered):
    rows, summary, _ = answered
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


def test_a_row_has_every_field_of_its_face(answered):
    rows, *_ = answered
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


def test_hostile_names_do_no_harm(answered):
    _, _, out = answered
    text = (out / "predictions.csv").read_bytes().decode()
    assert "\x1b" not in text
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == len(text.splitlines()) - 1  # no name breaks a line
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in table for cell in (row["file"], row["reason"]))
    page = (out / "gallery.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page and "\x1b" not in page
    assert "http" not in re.sub(r"data:image/jpeg;base64,[\w+/=]*", "", page)
    assert page.count("data:image/jpeg") == 10 and page.count("<figure") == 18
    copies = [path.name for path in (out / "annotated").iterdir()]
    assert len(copies) == 8 and all(re.fullmatch(r"[\w.-]+\.jpg", name) for name in copies)
    assert jsonl_csv_rows.cell("=1+1") == "'=1+1" and jsonl_csv_rows.cell([1.5, 2]) == "1.5 2"


def test_an_interrupted_call_resumes(folder, tmp_path, monkeypatch):
    names = ["one.png", "crowd.png", "none.png", "sub/deeper/jpeg.JPG"]
    whole, _ = run([folder / name for name in names], tmp_path / "whole")
    lines = (tmp_path / "whole" / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["faces"] for line in lines] == [1, 3, 3, 3, 0, 1]
    resumed, read = tmp_path / "resumed", []
    resumed.mkdir()
    (resumed / "predict.json").write_bytes((tmp_path / "whole" / "predict.json").read_bytes())
    (resumed / "predictions.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])  # killed within the crowd's rows
    original = Predictor._look
    monkeypatch.setattr(Predictor, "_look", lambda self, name, *rest: read.append(name) or original(self, name, *rest))
    rows, summary = run([folder / name for name in names], resumed)
    assert sorted(os.path.basename(name) for name in read) == ["crowd.png", "jpeg.JPG", "none.png"]
    assert rows == whole and summary["answered_before"] == 1
    for name in ("predictions.jsonl", "predictions.csv"):
        assert (resumed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ConfigError, match="coverage differ"):
        run([folder / "one.png"], resumed, coverage=0.5)


def test_sigterm_ends_with_75_and_the_same_call_resumes_without_lost_or_double_rows(folder, tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(24):
        (pictures / f"{i:02}.png").write_bytes((folder / ("one.png" if i % 3 else "none.png")).read_bytes())
    run([pictures], tmp_path / "whole")
    original = RowFiles.write

    def write(self, rows):
        original(self, rows)
        if rows[0]["file"].endswith("05.png"):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="while pictures; the same command") as stopped:
        patch.setattr(RowFiles, "write", write)
        run([pictures], tmp_path / "out")
    assert stopped.value.code == 75
    written = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert len(written) == 6 and not (tmp_path / "out" / "summary.json").exists()
    _, summary = run([pictures], tmp_path / "out")
    assert summary["answered_before"] == 6 and summary["pictures"] == 24
    for name in ("predictions.jsonl", "predictions.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_process_that_is_killed_or_stopped_while_it_predicts_resumes(folder, shipped, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(300):
        os.link(folder / "one.png", pictures / f"{i:03}.png")
    arguments = (pictures, f"--weights_dir={shipped}", f"--out={tmp_path / 'out'}")
    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -9), (signal.SIGINT, 130)):
        table = tmp_path / "out" / "predictions.jsonl"
        before = len(table.read_bytes().splitlines()) if table.exists() else 0
        process = subprocess.Popen(
            programs.command("predict", *arguments), cwd=programs.ROOT, env=programs.environment()
        )
        while process.poll() is None and not (table.exists() and len(table.read_bytes().splitlines()) > before + 20):
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    done = programs.start("predict", *arguments)
    assert done.returncode == 0, done.stderr
    names = [row["file"] for row in jsonl_csv_rows.read(tmp_path / "out" / "predictions.jsonl")]
    assert names == sorted(map(str, pictures.iterdir()))
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == names


def test_a_changed_picture_is_predicted_again(folder, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((folder / "none.png").read_bytes())
    first, _ = run([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    (tmp_path / "a.png").write_bytes((folder / "one.png").read_bytes())
    rows, summary = run([tmp_path / "a.png"], tmp_path / "out")
    assert rows[f"{tmp_path}/a.png"][0]["status"] != "no_face" and len(rows[f"{tmp_path}/a.png"]) == 1
    assert rows[f"{tmp_path}/b.png"] == first[f"{tmp_path}/b.png"]
    assert (tmp_path / "out" / "predictions.csv").read_text().count("a.png") == 1
    assert (summary["pictures"], summary["answered_before"]) == (2, 1) and summary["faces_per_second"] > 0
    capsys.readouterr()
    _, summary = run([tmp_path / "a.png"], tmp_path / "out", strict=True)
    assert re.search(r"a\.png: age \d+ .*male \d+%.*, at ", capsys.readouterr().out)  # an earlier call's answer
    assert summary["answered_before"] == 2 and summary["pictures_per_second"] == summary["faces_per_second"] == 0


def test_predictions_of_other_nets_and_boxes_are_not_mixed(folder, shipped, tmp_path, monkeypatch):
    def write(**boxes):
        (tmp_path / "boxes.json").write_text(json.dumps({str(folder / "one.png"): [[*boxes.values(), 40, 40]]}))

    options = {"boxes": str(tmp_path / "boxes.json"), "weights": "two"}
    write(x=10, y=10)
    run([folder / "one.png"], tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="views"):
        run([folder / "one.png"], tmp_path / "out", views="none", **options)
    write(x=20, y=10)
    with pytest.raises(ConfigError, match=": boxes differ"):
        run([folder / "one.png"], tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="none is for .*none.png"):
        run([folder / "none.png"], tmp_path / "other", **options)
    write(x=10, y=10)
    for name in ("json", "safetensors"):
        (tmp_path / f"two.{name}").write_bytes((shipped / f"one.{name}").read_bytes())
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    (tmp_path / "boxes.json").rename(tmp_path / "boxes")
    with pytest.raises(ConfigError, match=": nets differ"):
        run([folder / "one.png"], tmp_path / "out", weights="two", boxes=str(tmp_path / "boxes"))
    with hold(tmp_path / "out"), pytest.raises(ConfigError, match="another process writes"):
        run([folder / "one.png"], tmp_path / "out", weights="two")


def test_nets_without_thresholds_warn(folder, shipped, tmp_path, capsys):
    card = json.loads((shipped / "one.json").read_text())
    cards.write(tmp_path / "one.json", card | {"calibration": None})
    (tmp_path / "one.safetensors").write_bytes((shipped / "one.safetensors").read_bytes())
    run([folder / "none.png"], tmp_path / "out", weights="one", weights_dir=str(tmp_path))
    assert "WARNING: these nets have no thresholds" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    "box", ["[0, 0, 5, NaN]", "[NaN, 0, 5, 5]", "[0, 0, Infinity, 5]", "[0, 0, 0.1, 5]", "[1e300, 0, 9, 9]"]
)
def test_impossible_boxes_are_refused(box, tmp_path):
    (tmp_path / "boxes.json").write_text(f'{{"a.jpg": [{box}]}}')
    with pytest.raises(ConfigError, match="a box is not"):
        read_boxes(str(tmp_path / "boxes.json"))


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


def test_a_list_on_a_closed_stdin(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="stdin is closed"):
        run(["-"], tmp_path / "out")


def test_missing_weights_are_an_error_with_a_fix(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"ships no weights[\s\S]*launch.train"):
        run([folder / "one.png"], tmp_path / "out")


def test_the_page_shows_the_least_confident_and_survives_an_unfinished_line(answered, tmp_path, monkeypatch):
    _, summary, out = answered
    stored = (out / "thumbnails.jsonl").read_bytes()
    monkeypatch.setattr(gallery, "MOST", 12)
    rows = list(jsonl_csv_rows.read(out / "predictions.jsonl"))
    (tmp_path / "thumbnails.jsonl").write_bytes(b'{"file": "unfinished' + stored)
    gallery.write(tmp_path / "page.html", iter(rows), tmp_path / "thumbnails.jsonl", summary)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 10 and page.count("<figure") == 12 and "6 most confident rows" in page
    shown = [int(text) for text in re.findall(r"<b>\w+ (\d+) %", page)]
    assert shown == sorted(shown) and len(shown) == 10


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
