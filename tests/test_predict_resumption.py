"""agegender predict: an interrupted call resumes, and a folder never mixes the predictions of different calls."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time

import predicted_photos
import programs
import pytest
import small_weights
from predicted_photos import run

from agegender_jax import weights
from agegender_jax.errors import ConfigError, Stopped
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.report import gallery
from agegender_jax.run.pictures import jsonl_csv_rows, prediction_rows
from agegender_jax.run.pictures.jsonl_csv_rows import RowFiles
from agegender_jax.run.workdir import hold

TABLES = "predictions.jsonl", "predictions.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return predicted_photos.write(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory):
    path = small_weights.write(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", path)
        yield path


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
    with pytest.raises(ConfigError, match="score differ") as error:
        run([folder / "one.png"], resumed, score=0.8)
    assert "such as --out=" in error.value.fix and "/resumed-2, or delete" in error.value.fix


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
    assert re.search(r"a\.png: age \d+ .*male \d+%.*, at ", capsys.readouterr().out)  # an earlier call's prediction
    assert summary["answered_before"] == 2 and summary["pictures_per_second"] == summary["faces_per_second"] == 0


def test_other_options_restate_the_rows_of_earlier_calls(folder, tmp_path):
    """One call with the options, and calls with others before it, write the same."""
    paths = [folder / name for name in ("one.png", "none.png", "crowd.png")]
    options = {"over": [18, 60], "coverage": 0.8, "max_error": 0.1, "weights": "one"}
    expected, _ = run(paths, tmp_path / "whole", **options)
    run(paths[:2], tmp_path / "out", over=[30], coverage=0.5, weights="one")
    rows, summary = run(paths[2:], tmp_path / "out", **options)
    assert rows == expected and summary["answered_before"] == summary["not_named"] == 2
    for name in TABLES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    settings = json.loads((tmp_path / "out" / "predict.json").read_text())
    unfinished = {name: value for name, value in settings.items() if name not in ("over", "coverage", "max_error")}
    (tmp_path / "out" / "predict.json").write_text(json.dumps(unfinished | {"gallery": False, "annotate": False}))
    plain, _ = run(paths[:1], tmp_path / "out", weights="one")  # after a call that was killed while it restated rows
    assert list(plain[str(paths[2])][0]) == [*prediction_rows.columns(()), "state"]
    assert plain[str(paths[2])][0]["coverage"] == 0.9


def test_drawings_of_earlier_calls_are_made_where_they_are_missing(folder, tmp_path, monkeypatch):
    for name, source in (("a.png", "one.png"), ("b.png", "crowd.png"), ("c.png", "one.png")):
        (tmp_path / name).write_bytes((folder / source).read_bytes())
    out, (a, b, c) = tmp_path / "out", (tmp_path / f"{name}.png" for name in "abc")
    rows, _ = run([a, b, c], out, weights="one")
    c.unlink()
    assert {path.name for path in out.iterdir()} == {".lock", *(f"{x}.json" for x in ("predict", "summary")), *TABLES}
    again, _ = run([a], out, gallery=True, annotate=True, weights="one")
    page = (out / "gallery.html").read_text()
    assert again == rows and page.count("data:image/jpeg") == 4 and page.count("<figure") == 5  # all but the deleted
    assert len(list((out / "annotated").iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_look", lambda *args: pytest.fail("nothing is left to draw"))
        run([a, b], out, gallery=True, annotate=True, weights="one")
    a.write_bytes((folder / "none.png").read_bytes())
    run([a], out, weights="one")
    assert [path.name[0] for path in (out / "annotated").iterdir()] == ["b"]  # no copy of the earlier picture
    assert (out / "gallery.html").read_text().count("data:image/jpeg") == 3  # later calls keep the page up to date


def test_copies_are_drawn_again_for_another_coverage(folder, tmp_path, monkeypatch):
    shutil.copy(folder / "one.png", tmp_path / "a.png")
    out, options = tmp_path / "out", {"annotate": True, "weights": "one"}
    drawn = []
    monkeypatch.setattr(gallery, "annotated", lambda picture: drawn.append(picture.faces[0].age_interval) or b"jpeg")
    rows, _ = run([tmp_path / "a.png"], out, **options)
    run([tmp_path / "a.png"], out, **options)
    assert len(drawn) == 1
    run([tmp_path / "a.png"], out, weights="one", coverage=0.5)  # draws nothing
    (row,) = run([tmp_path / "a.png"], out, coverage=0.5, **options)[0][str(tmp_path / "a.png")]
    assert drawn[1:] == [(row["age_low"], row["age_high"])] != drawn[:1]
    run([tmp_path / "a.png"], out, coverage=0.5, **options)
    assert len(drawn) == 2


def test_another_picture_of_the_same_relative_name_is_refused(folder, tmp_path, monkeypatch):
    for place, source in (("trip1", "one.png"), ("trip2", "crowd.png")):
        (tmp_path / place).mkdir()
        shutil.copy(folder / source, tmp_path / place / "a.png")
    monkeypatch.chdir(tmp_path / "trip1")
    rows, _ = run(["a.png"], tmp_path / "out", weights="one")
    monkeypatch.chdir(tmp_path / "trip2")
    for source in ("none.png", "one.png"):  # calls for another picture, which changes, in between
        with pytest.raises(ConfigError, match="another picture called a.png: an earlier call ran in .*trip1"):
            run(["a.png"], tmp_path / "out", weights="one")
        shutil.copy(folder / source, tmp_path / "trip2" / "b.png")
        between, _ = run(["b.png"], tmp_path / "out", weights="one")
        assert between["b.png"][0]["status"] == ("no_face" if source == "none.png" else rows["a.png"][0]["status"])
    monkeypatch.chdir(tmp_path)
    added, _ = run(["trip2/a.png"], tmp_path / "out", weights="one")
    assert added["a.png"] == rows["a.png"] and len(added["trip2/a.png"]) > 1 and "b.png" in added
    monkeypatch.chdir(tmp_path / "trip1")
    assert run(["a.png"], tmp_path / "out", weights="one")[0] == added  # the same picture


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
