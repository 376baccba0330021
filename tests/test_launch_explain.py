"""launch.explain, and launch.evaluate --explain: files, arrays, figures, messages."""

import json
import os
import shutil
import types

import drawn_photos
import numpy as np
import programs
import pytest
import small_weights
from PIL import Image
from programs import check

from agegender_jax import explain, files, report, synthetic, weights
from agegender_jax.data.decoding import resize
from agegender_jax.errors import CheckpointError, ConfigError, DataError, Stopped
from agegender_jax.explain import maps, sanity
from agegender_jax.photos import face_chips
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run import evaluate
from agegender_jax.run import explain as explain_command
from agegender_jax.run.explanations import explain_evaluation, explained_nets, explained_photos
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.structs import Probs

UNICODE = "Zoë 李.png"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A folder with 60 synthetic faces, a run trained on them, and two pictures of other sizes and modes."""
    folder = tmp_path_factory.mktemp("explain")
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    done = programs.run(
        "train",
        *programs.SMALL,
        "--config.model.name=levi_hassner",  # the smallest to compile
        "--config.num_steps=1",
        f"--config.data.source={folder / 'faces'}",
        f"--config.data.cache_dir={folder / 'cache'}",
        f"--workdir={folder / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    (folder / "photos" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 40, 4), dtype=np.uint8)).save(folder / "photos" / UNICODE)
    Image.fromarray(rng.integers(0, 256, (33, 60), dtype=np.uint8)).save(folder / "photos" / "deep" / "grey.jpg")
    return folder


def whole(image):
    return face_chips.find(image, (32, 40), kind="none")


def in_process(workdir, paths, workdirs=None, **options):
    arguments = {
        "methods": [],
        "heads": explain.HEADS,
        "checkpoint": "best",
        "out": str(workdir / "out"),
        "scores": False,
    }
    workdirs = [str(workdir / "run")] if workdirs is None else workdirs
    return explain_command.explain_photos([str(path) for path in paths], workdirs, **arguments | options)


def test_explain_writes_overlays_and_arrays(workdir):
    out = workdir / "explained"
    arguments = (
        workdir / "photos",
        f"--workdir={workdir / 'run'}",
        workdir / "photos" / UNICODE,
        "--scores",
        f"--out={out}",
    )
    done = programs.run("explain", *arguments)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    summary = json.loads((out / "explanations.json").read_text())
    names = ["Zoë 李", "grey", "Zoë 李-2"]  # the folder's, in order of their paths, and one of them again
    assert [image["name"] for image in summary["images"]] == names
    assert [image["file"] for image in summary["images"]] == [
        str(workdir / "photos" / name) for name in (UNICODE, "deep/grey.jpg", UNICODE)
    ]
    assert summary["members"] == [{"name": "run", "workdir": str(workdir / "run"), "step": 1, "image_size": 32}]
    for image, name in zip(summary["images"], names, strict=True):
        with np.load(out / "run" / f"{name}.npz") as arrays:
            kinds = {f"{method}_{head}" for method in explain.METHODS for head in explain.HEADS}
            assert set(arrays) == kinds | {"picture"}  # a ResNet has no attention
            assert all(arrays[kind].shape == (32, 32) and arrays[kind].dtype == np.float32 for kind in kinds)
            assert arrays["picture"].shape == (32, 32, 3)
            pixels = {head: arrays[f"lrp_{head}"].sum() for head in explain.HEADS}
        with Image.open(out / "run" / f"{name}.png") as figure:
            assert figure.width > 400
        for head, answer in image["answers"]["run"].items():
            assert answer["probability"] == max(answer["probabilities"])
            account = answer["lrp"]
            assert account["pixels"] == pytest.approx(pixels[head], rel=1e-3, abs=1e-5)
            whole = sum(account[part] for part in ("pixels", "absorbed", "feed", "error"))
            assert account["logit"] == pytest.approx(whole, rel=1e-3, abs=1e-5)
            assert set(answer["areas"]) == {*explain.METHODS, "random", "blob"}
            assert all(0 <= area <= 1 for areas in answer["areas"].values() for area in areas.values())
    first, again = (summary["images"][i]["answers"]["run"]["age"] for i in (0, 2))
    del first["areas"]["random"], again["areas"]["random"]  # each row has noise of its own
    assert first == again


def test_every_face_of_a_photo_is_explained_by_the_weights_of_the_package(workdir, tmp_path):
    photo = drawn_photos.background(200, 420)
    for i in range(2):
        photo = drawn_photos.paste(photo, drawn_photos.face(2 + i), (110 + 200 * i, 100), 160)
    (tmp_path / "photo.png").write_bytes(drawn_photos.encode(photo))
    (tmp_path / "empty.png").write_bytes(drawn_photos.encode(photo[:40, :40]))
    options = {
        "weights": "one",
        "weights_dir": small_weights.write(tmp_path),
        "methods": ["grad_cam"],
        "heads": ["gender"],
    }
    summary = in_process(workdir, [tmp_path / "photo.png", tmp_path / "empty.png"], [], out=str(tmp_path), **options)
    assert [(image["name"], image["face"]) for image in summary["images"]] == [("photo-face0", 0), ("photo-face1", 1)]
    assert summary["no_face"] == [str(tmp_path / "empty.png")] and summary["members"][0]["weights"].endswith("/one")
    expected = Predictor(weights="one", weights_dir=tmp_path)(tmp_path / "photo.png")
    for image, face in zip(summary["images"], expected, strict=True):
        with np.load(tmp_path / "one" / f"{image['name']}.npz") as arrays:
            np.testing.assert_array_equal(arrays["picture"], face.chip)
        assert image["box"] == pytest.approx(face.box, abs=0.01)
    assert (tmp_path / "one" / "photo-face1.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"--out holds other results: explanations of .*/one"):
        in_process(workdir, [tmp_path / "photo.png"], out=str(tmp_path))


def test_pictures_are_prepared_as_for_training(workdir):
    (photo,), _ = explained_photos.read([str(workdir / "photos" / UNICODE)], whole)
    rgba = Image.open(workdir / "photos" / UNICODE)
    white = np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    for size in (32, 40):
        np.testing.assert_array_equal(photo.sized[size], resize(white, size))


def test_names_that_differ_in_case_only_do_not_collide(workdir):
    for name in ("A.png", "a.jpg"):
        (workdir / "case").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(workdir / "case" / name)
    assert [photo.name for photo in explained_photos.read([str(workdir / "case")], whole)[0]] == ["A", "a-2"]


def test_long_or_undecodable_names_are_shortened_and_replaced(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"\xff.png", "ö".encode() * 125 + b".png"):
        with open(os.path.join(folder, name), "wb") as file:
            Image.new("RGB", (32, 32)).save(file, "PNG")
    assert {photo.name for photo in explained_photos.read([str(tmp_path)], whole)[0]} == {"\ufffd", "ö" * 100}


def test_a_replaced_byte_takes_the_room_of_its_replacement(tmp_path):
    """The suffixes of the files, and of their temporary names, must fit into the 255 bytes of a file name."""
    with open(os.path.join(os.fsencode(tmp_path), b"\xe9" * 100 + b".jpg"), "wb") as file:
        Image.new("RGB", (32, 32)).save(file, "JPEG")
    ((photo,), _) = explained_photos.read([str(tmp_path)], whole)
    assert photo.name == "\ufffd" * 66 and len(photo.name.encode()) <= explained_photos.LONGEST


def test_neither_a_photo_nor_a_file_of_the_user_is_replaced(workdir, tmp_path):
    """A refused command leaves nothing behind, either."""
    run = tmp_path / "faces" / "run"
    run.mkdir(parents=True)
    photo, own = run / "a.png", run / "b.npz"
    photo.write_bytes(drawn_photos.encode(drawn_photos.face(2)))
    own.write_text("mine")
    before = photo.read_bytes()
    (tmp_path / "b.png").write_bytes(before)
    options = {"out": str(tmp_path / "faces"), "methods": ["grad_cam"], "heads": ["gender"]}
    for path, text in ((photo, "would replace a photo"), (tmp_path / "b.png", "did not write")):
        with pytest.raises(ConfigError, match=text):
            in_process(workdir, [path], **options)
    assert photo.read_bytes() == before and own.read_text() == "mine"
    assert sorted(path.name for path in run.iterdir()) == ["a.png", "b.npz"]
    out = tmp_path / "out"
    for _ in range(2):  # its own are
        in_process(workdir, [photo], **options | {"out": str(out)})
    other = shutil.copytree(workdir / "run", tmp_path / "other")
    with pytest.raises(ConfigError, match="--out holds other results"):
        in_process(workdir, [photo], [str(other)], **options | {"out": str(out)})
    assert not (out / "other").exists()


def test_an_interrupted_command_keeps_what_it_has_computed(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(explain_command, "BATCH", 2)
    out, photos, computed = tmp_path / "out", [], []
    for i in range(5):
        photos.append(tmp_path / f"{i}.png")
        photos[i].write_bytes(drawn_photos.encode(drawn_photos.face(i)))
    options = {"out": str(out), "methods": ["grad_cam"], "heads": ["gender"]}
    compute = explain_command.compute_maps

    def interrupted(*args, **kwargs):
        computed.append(len(args[2]))
        if len(computed) == 2:
            raise KeyboardInterrupt
        return compute(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain_command, "compute_maps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            in_process(workdir, photos, **options)
    assert computed == [2, 2] and {path.stem for path in (out / "run").iterdir()} == {"0", "1"}
    summary = in_process(workdir, photos, **options)
    assert {path.stem for path in (out / "run").iterdir()} == set("01234")
    alone = in_process(workdir, photos[3:4], **options | {"out": str(tmp_path / "alone")})
    pair = [of["images"][i]["answers"]["run"]["gender"]["probabilities"] for of, i in ((summary, 3), (alone, 0))]
    np.testing.assert_allclose(*pair, rtol=1e-5)


def test_weights_without_a_calibration_of_their_own_keep_their_open_group(tmp_path):
    """As in `Predictor`; the members of an exported ensemble are such weights."""
    small_weights.write(tmp_path)
    card = {name: value for name, value in json.loads((tmp_path / "one.json").read_text()).items() if name != "digest"}
    weights.cards.write(tmp_path / "one.json", card | {"calibration": None, "open_from": 7})
    (net,) = explained_nets.choose([], "one", str(tmp_path), "best")
    assert net.open_from == 7 == Predictor(weights="one", weights_dir=tmp_path).faces_from_probs.open_from


def test_user_errors(workdir, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "out").write_text("")
    picture = workdir / "photos" / UNICODE
    shipped = {"weights_dir": small_weights.write(tmp_path)}
    cases = [
        (DataError, "there is no such image", [tmp_path / "nowhere.jpg"], {}),
        (DataError, "no image in the folder", [tmp_path / "empty"], {}),
        (DataError, "the image cannot be used", [picture, tmp_path / "broken.jpg"], {}),
        (ConfigError, "no image is named", [], {}),
        (ConfigError, "both runs and weights", [picture], {"weights": "default"}),
        (ConfigError, "use one of default, one, two", [picture], {"workdirs": [], "weights": "x", **shipped}),
        (DataError, "no face was found", [picture], {"detector": "yunet"}),
        (ConfigError, "unknown method 'lpr'", [picture], {"methods": ["lpr"]}),
        (ConfigError, "--out cannot be used", [picture], {"out": str(tmp_path / "out")}),
        (CheckpointError, "there is no run", [picture], {"workdirs": [str(tmp_path)]}),
        (CheckpointError, "step 7", [picture], {"checkpoint": "7"}),
    ]
    for kind, text, paths, options in cases:
        with pytest.raises(kind, match=text):
            in_process(workdir, paths, **options)


def test_what_is_left_out_of_a_folder_is_named(workdir, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    shutil.copy(workdir / "photos" / UNICODE, photos)
    (photos / "more.zip").write_bytes(b"")
    (photos / "elsewhere").symlink_to(tmp_path)
    out.write_bytes(b"")  # the command ends with an error about it
    with pytest.raises(ConfigError, match="--out cannot be used"):
        in_process(workdir, [photos], out=str(out))
    (line,) = capsys.readouterr().out.splitlines()
    first = f"WARNING: not read: {photos}/elsewhere: a link to the folder {tmp_path}, not followed"
    assert line.startswith(f"{first}; {photos}/more.zip: an archive in a folder, not read; name it as an argument")


def test_a_signal_stops_while_faces_are_found(workdir):
    with stop_flag() as stop:
        stop.code = 75
        with pytest.raises(Stopped, match="stopped while finding faces"):
            in_process(workdir, [workdir / "photos"])


def test_controls_are_refused(workdir):
    config = json.loads((workdir / "run" / "config.json").read_text())
    control = workdir / "control"
    control.mkdir()
    config["model"]["gender_to_age"] = "true"
    (control / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="fed the true gender: a control"):
        in_process(workdir, [workdir / "photos"], workdirs=[str(control)])
    with pytest.raises(ConfigError, match="fed the true gender: a control"):
        options = {"source": None, "split": "test", "checkpoint": "best", "out": None, "allow_leak": False}
        evaluate.evaluate([str(control)], **options, allow_control=True, explain=1)


def test_exit_codes_and_help(workdir):
    done = programs.run("explain", workdir / "nowhere.jpg", f"--workdir={workdir / 'run'}")
    check(done, 3, "there is no such image", f"  where: {workdir / 'nowhere.jpg'}\n")
    check(programs.run("explain", "x.jpg", "--checkpoint=beast"), 2, "unknown checkpoint 'beast'")


def test_evaluate_explains(workdir, monkeypatch):
    monkeypatch.setattr(sanity, "LEVELS", 1)  # besides the heads
    monkeypatch.setitem(explain.integrated.__kwdefaults__, "steps", 4)
    out = workdir / "evaluated"
    options = {"source": None, "split": "test", "checkpoint": "best", "out": str(out), "allow_leak": False}
    evaluate.evaluate([str(workdir / "run")], **options, draw=False, explain=3)
    summary = json.loads((out / "results.json").read_text())["explanations"]
    assert summary["n"] == 3 and list(summary["members"]) == ["run"] and summary["members"]["run"]["seconds"] > 0
    for head in explain.HEADS:
        rows = summary["members"]["run"][head]["maps"]
        assert set(rows) == {*explain.METHODS, "random", "blob"}
        assert all("localisation" in row for row in rows.values())  # the faces are drawn
        for method in explain.METHODS:
            difference = rows[method]["minus_blob"]["insertion"]
            low, high = difference["ci95"] or (-1e-6, 1e-6)  # all pictures may have one prediction, but for rounding
            assert low <= difference["mean"] <= high
            assert isinstance(rows[method]["sanity"]["passes"], bool)
    assert [path.name for path in (out / "figures").iterdir()] == ["explanations_run.png"]
    assert (out / "figures" / "explanations_run.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert report.explanations(summary)["title"] in page and "integrated gradients" in page


def test_the_scores_get_the_groups_and_the_figures_the_labels_of_their_images(monkeypatch):
    images, age = np.arange(3)[:, None, None, None], np.zeros((3, 2), int)
    prepared = types.SimpleNamespace(
        images=lambda size, progress: images,
        group=np.array([5, 6, 5]),
        age=age,
        gender=age[:, 0].copy(),
        file=["a", "b", "c"],
    )
    dataset = types.SimpleNamespace(prepared=prepared, indices=lambda split: np.array([0, 2]), picture=lambda i: age)
    seen = []
    monkeypatch.setattr(
        explain_evaluation.loading, "load_checkpoint", lambda *_: (None, None, {"data": {"image_size": 32}}, 1)
    )
    relevant = types.SimpleNamespace(relevance={"age": {"lrp": 1}})
    joined = []
    monkeypatch.setattr(
        explain_evaluation, "compute_maps", lambda *_, open_from, progress: joined.append(open_from) or relevant
    )
    compared = []
    monkeypatch.setattr(explain_evaluation.report, "relevance_grid", lambda *args: compared.append(args) or b"")
    monkeypatch.setattr(explain_evaluation.map_scores, "score", lambda *arguments: seen.append(arguments) or {})
    labels = []
    monkeypatch.setattr(explain_evaluation.report, "explanation_grid", lambda *args: labels.extend(args[2]) or b"")
    run = types.SimpleNamespace(path=None)
    explain_evaluation.explain([run], ["net"], [1], dataset, "test", 2, Progress(silent=True))
    ((*_, scored, _, _, _, group),) = seen
    assert scored.ravel().tolist() == [0, 2] and group.tolist() == [5, 5] and labels == ["male 0-9", "male 0-9"]
    assert not compared and joined == [None]
    age[:2] = 7, 11  # "more than 70"
    explain_evaluation.explain([run], ["net"], [1], dataset, "test", 2, Progress(silent=True))
    assert joined.pop() == 7
    age[:2] = 0
    explained = explain_evaluation.explain([run] * 2, ["a", "b"], [1, 1], dataset, "test", 2, Progress(silent=True))
    assert set(explained.figures) >= {"relevance_age.png", "relevance_gender.png"}
    for (nets, head, age, gender), expected in zip(compared, explain.HEADS, strict=True):
        assert list(nets) == ["a", "b"] and nets["b"].maps is relevant and head == expected
        assert nets["b"].images.ravel().tolist() == [0, 2] and nets["b"].scores == {}
        assert age.tolist() == [[0, 0], [0, 0]] and gender.tolist() == [0, 0]


def test_an_open_last_group_is_predicted_as_one_class_and_explained_by_its_most_probable(workdir, tmp_path):
    age = np.zeros((2, 12))
    age[0, 6:9] = 0.4, 0.25, 0.35  # 60-69 is the most probable bucket, and 70+ the most probable group
    age[1, 6:9] = 0.5, 0.3, 0.2
    probs = Probs(age, np.array([[0.3, 0.7]] * 2))
    assert maps.predicted(probs, "age", None).tolist() == [6, 6]
    assert maps.predicted(probs, "age", 7).tolist() == [8, 6] and maps.predicted(probs, "gender", 7).tolist() == [1, 1]
    targets = {head: maps.predicted(probs, head, 7) for head in explain.HEADS}
    found = maps.Maps(probs, targets, (), {}, {}, 7)
    assert found.prediction("age", 0) == ("70+", pytest.approx(0.6))
    assert found.prediction("age", 1) == ("60-69", 0.5) and found.prediction("gender", 0) == ("female", 0.7)
    small_weights.write(tmp_path)
    card = json.loads((tmp_path / "one.json").read_text())
    card["calibration"]["open_from"] = 1
    (tmp_path / "one.json").write_text(json.dumps(files.seal(card)))
    options = {"weights": "one", "weights_dir": tmp_path, "methods": ["grad_cam"], "heads": ["age"]}
    path = workdir / "photos" / "deep" / "grey.jpg"
    (image,) = in_process(workdir, [path], [], out=str(tmp_path), detector="none", **options)["images"]
    prediction = image["answers"]["one"]["age"]
    group = sum(prediction["probabilities"][1:])
    assert prediction["class"] == ("10+" if group > 0.5 else "0-9")
    assert prediction["probability"] == pytest.approx(max(group, 1 - group), abs=1e-5)
    (net,) = explained_nets.choose([str(workdir / "run")], None, None, "best")
    path = workdir / "run" / "calibration.json"
    before = path.read_text()
    path.write_text(json.dumps(files.seal(json.loads(before) | {"open_from": 7})))
    (joined,) = explained_nets.choose([str(workdir / "run")], None, None, "best")
    path.write_text(json.dumps(files.seal(json.loads(before) | {"open_from": 99})))
    with pytest.raises(CheckpointError, match="calibration.json of the workdir is damaged"):
        explained_nets.choose([str(workdir / "run")], None, None, "best")
    old = json.loads(before)
    del old["open_from"]  # as version 0.2 wrote it, which has it in answers.json
    path.write_text(json.dumps(files.seal(old)))
    thresholds = {"ensembles": {"run": {"checkpoints": [""], "answers": card["calibration"] | {"open_from": 8}}}}
    (workdir / "run" / "answers.json").write_text(json.dumps(thresholds))
    (older,) = explained_nets.choose([str(workdir / "run")], None, None, "best")
    (workdir / "run" / "answers.json").unlink()
    path.write_text(before)
    assert net.open_from is None and joined.open_from == 7 and older.open_from == 8
    card["calibration"]["open_from"] = 99
    (tmp_path / "one.json").write_text(json.dumps(files.seal(card)))
    with pytest.raises(CheckpointError, match="the calibration cannot be used: open_from 99"):
        explained_nets.choose([], "one", str(tmp_path), "best")
