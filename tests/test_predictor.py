"""Predictor: the same prediction for every form of a picture; weights and runs; what is refused."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys
import threading
import types

import drawn_photos
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import small_weights
import tiny_runs
from PIL import Image

import agegender_jax
from agegender_jax import ensemble, files, loading, weights
from agegender_jax.data import parallel_map
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.photos import detector
from agegender_jax.prediction import calibration, members, pictures
from agegender_jax.prediction import predictor as prediction_predictor
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run import calibrate
from agegender_jax.run.explanations import explained_nets
from agegender_jax.structs import Probs


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return small_weights.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def predictor(shipped):
    return Predictor(weights_dir=shipped, over=(18,))


@pytest.fixture(scope="module")
def photo():
    picture = drawn_photos.background(200, 420)
    for i in range(2):
        picture = drawn_photos.paste(picture, drawn_photos.face(2 + i), (110 + 200 * i, 100), 160)
    return picture


def test_every_form_of_a_picture_gives_the_same_prediction(predictor, photo, tmp_path):
    (tmp_path / "a.png").write_bytes(drawn_photos.encode(photo))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(photo)))
    out = io.BytesIO()
    turned.save(out, "PNG", exif=exif)
    forms = (photo, Image.fromarray(photo), tmp_path / "a.png", str(tmp_path / "a.png"), drawn_photos.encode(photo))
    faces_of = [predictor(form) for form in (*forms, out.getvalue())]
    assert len(faces_of[0]) == 2 and agegender_jax.Predictor is Predictor
    plain = [[dataclasses.replace(face, picture="") for face in faces] for faces in faces_of]
    assert all(faces == plain[0] for faces in plain)
    assert [face.picture for face in predictor([photo, tmp_path / "a.png"])] == ["picture 0"] * 2 + [
        str(tmp_path / "a.png")
    ] * 2


def test_a_face_is_the_calibrated_ensemble_of_its_chip(predictor, photo):
    first, _ = predictor(photo)
    parts = []
    for member in predictor.members:
        probs = ensemble.predict(member.model, member.variables, first.chip[None])
        parts.append(ensemble.calibrate(probs, 1.5, 0.8))
    mean = ensemble.mean_probs(parts)
    assert first.p_female == pytest.approx(float(mean.gender[0, 1]), abs=1e-5)
    np.testing.assert_allclose(first.age_probs, mean.age[0], atol=1e-5)
    assert first.age_interval[0] <= first.age <= first.age_interval[1] and first.calibrated
    assert first.over[18]["decision"] in ("yes", "no", "unsure") and first.chip.shape == (32, 32, 3)


def test_batches_do_not_change_predictions(predictor, photo, shipped):
    single = Predictor(weights_dir=shipped, over=(18,), batch_size=1)
    both = [list(model([photo, photo[:, :210], photo])) for model in (predictor, single)]
    assert len(both[0]) == 5
    values = [[(face.age, face.p_female, *face.box) for face in faces] for faces in both]
    np.testing.assert_allclose(*values, atol=1e-3)


def test_pictures_of_one_face_each_fill_large_batches(shipped, photo, monkeypatch):
    model, sizes = Predictor(weights_dir=shipped, detector="none", batch_size=20), []

    def mean_probs(_, images):
        sizes.append([len(chips) for chips in images.values()])
        return Probs(jnp.full((20, 12), 1 / 12), jnp.full((20, 2), 0.5))

    monkeypatch.setattr(members, "mean_probs", mean_probs)
    names = [picture.name for picture in model.pictures((str(i), photo[:40, :40]) for i in range(40))]
    assert names == [str(i) for i in range(40)] and sizes == 2 * [[20]]


def test_groups_are_computed_at_the_same_time(shipped, monkeypatch):
    monkeypatch.setattr(prediction_predictor, "_COMPUTING", 2)
    model, both = Predictor(weights_dir=shipped, detector="none", batch_size=1), threading.Barrier(2, timeout=5)
    compute = model._compute
    monkeypatch.setattr(members, "mean_probs", lambda *_: Probs(jnp.full((1, 12), 1 / 12), jnp.full((1, 2), 0.5)))
    monkeypatch.setattr(model, "_compute", lambda sized: both.wait() >= 0 and compute(sized))
    names = [picture.name for picture in model.pictures(np.zeros((4, 40, 40, 3), np.uint8))]
    assert names == [f"picture {i}" for i in range(4)]


def test_views_replace_those_of_the_nets(shipped, predictor, photo):
    chip = {32: predictor(photo)[0].chip[None]}
    mirrored = {32: chip[32][:, :, ::-1]}
    flip, none = (Predictor(weights="one", weights_dir=shipped, views=views) for views in ("flip", "none"))
    np.testing.assert_allclose(flip.probs(chip).age, flip.probs(mirrored).age, atol=1e-6)
    assert np.abs(none.probs(chip).age - none.probs(mirrored).age).max() > 1e-4
    with pytest.raises(ConfigError, match="use none, flip, flip_shift"):
        Predictor(weights_dir=shipped, views="mirror")


def test_weights_are_on_the_device_before_the_first_batch(predictor):
    leaves = jax.tree.leaves([member.variables for member in predictor.members])
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


def test_unreadable_pictures(predictor, photo, tmp_path):
    with pytest.raises(DataError, match="empty file"):
        predictor(b"")
    with pytest.raises(DataError, match="no such file"):
        predictor(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match=r"a folder[\s\S]*fix: +pass its pictures: predictor.pictures\(\[path, ...\]\)"):
        predictor(tmp_path)
    with pytest.raises(DataError, match=r"uint8 RGB \[H, W, 3\], got float64"):
        predictor(photo / 255)
    with pytest.warns(UserWarning, match="picture 0 cannot be used: not a"):
        assert len(list(predictor([b"text", photo]))) == 2
    statuses = [(picture.status, len(picture.faces)) for picture in predictor.pictures([b"text", photo, photo[:, :9]])]
    assert statuses == [("unreadable", 0), ("ok", 2), ("no_face", 0)]


def test_open_files_other_arrays_and_what_is_no_picture(predictor, photo, tmp_path):
    content = drawn_photos.encode(photo)
    (tmp_path / "a.png").write_bytes(content)

    def absent():
        raise FileNotFoundError("gone")

    with open(tmp_path / "a.png", encoding="latin-1") as text, open(tmp_path / "a.png", "rb") as file:
        for form in (file, io.BytesIO(content), memoryview(content), jnp.asarray(photo), lambda: content):
            assert pictures.is_one(form) and np.array_equal(pictures.pixels(form), photo)
        bad = {
            "None is not a picture": None,
            "an object of type int is not": 7,
            "type list is not": photo[:2, :2].tolist(),
            "type tuple is not": (1, 2, 3),
            "reading gave str, not bytes": text,
            "cannot be read: gone": absent,
            "is a URL": "https://example.org/a.png",
            "an empty path": "",
            "an array must be uint8 RGB [H, W, 3], got float64": photo / 255,
            "damaged: ": Image.open(io.BytesIO(content[:2000])),
        }
        listed = list(predictor.pictures([*bad.values(), photo[:9, :9]]))
        given = list(predictor.pictures(iter([*bad.values(), photo[:9, :9]])))
    for answers in (listed, given):
        assert answers.pop().status == "no_face"
        for reason, picture in zip(bad, answers, strict=True):
            assert picture.status == "unreadable" and reason in picture.reason, picture
    with pytest.raises(DataError, match="None is not a picture"):
        predictor(None)
    assert not pictures.is_one(photo[None]) and not pictures.is_one(np.array(["a.png"]))
    (tmp_path / "b.png").write_bytes(drawn_photos.encode(photo[:9, :9]))
    for one in (str(tmp_path / "b.png"), photo[:9, :9], Image.fromarray(photo[:9, :9])):
        assert [picture.status for picture in predictor.pictures(one)] == ["no_face"]


def _frames(count):
    return [np.full((40, 60, 3), 20 * i, np.uint8) for i in range(count)]


def _one_buffer(frames):
    buffer = np.zeros_like(frames[0])
    for frame in frames:
        buffer[:] = frame
        yield buffer


def _one_bytearray(frames):
    buffer = bytearray(len(drawn_photos.encode(frames[0], "BMP")))
    for frame in frames:
        buffer[:] = drawn_photos.encode(frame, "BMP")
        yield memoryview(buffer)
        yield buffer


def _closed_files(frames):
    for frame in frames:
        with io.BytesIO(drawn_photos.encode(frame)) as file:
            yield file


def _closed_images(frames):
    for frame in frames:
        with io.BytesIO(drawn_photos.encode(frame)) as file, Image.open(file) as image:
            yield image
        with Image.fromarray(frame) as image:
            yield image
            image.paste((255, 0, 0), (0, 0, 60, 40))
        image.close()


@pytest.mark.parametrize("again", [_one_buffer, _one_bytearray, _closed_files, _closed_images])
@pytest.mark.parametrize("wrapped", [None, "boxes", "named"])
def test_an_iterable_may_close_or_overwrite_a_source_when_it_gives_the_next(predictor, again, wrapped):
    frames = _frames(10)
    sources = again(frames)
    if wrapped == "boxes":
        sources = (prediction_predictor.WithBoxes(source, []) for source in sources)
    elif wrapped == "named":
        sources = (("frame", source) for source in sources)
    answers = list(predictor.pictures(sources, previews=100))
    times = len(answers) // len(frames)
    assert [answer.reason for answer in answers] == [""] * len(frames) * times
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.preview, frames[i // times])


def test_a_name_may_begin_with_a_tilde(tmp_path, monkeypatch):
    (tmp_path / "~photo.jpg").write_bytes(b"photo")
    monkeypatch.chdir(tmp_path)
    assert pictures._read("~photo.jpg") == b"photo"
    with pytest.raises(pictures.Unusable, match="cannot be read"):
        pictures._read("~nobody.jpg")


def test_a_list_of_pixels_is_not_copied(predictor):
    frames = _frames(3)
    for sources in (frames, tuple(frames), np.stack(frames)):
        for answer, frame in zip(predictor.pictures(sources, previews=100), sources, strict=True):
            assert np.shares_memory(answer.preview, frame)


def test_a_box_outside_of_its_picture_has_no_prediction(predictor, photo):
    boxes = ([[30, 30, 160, 160]], [[30, 30, 160, 160], [2000, 30, 160, 160]], [[-160, 0, 160, 160]])
    answers = list(predictor.pictures([prediction_predictor.WithBoxes(photo, rows) for rows in boxes]))
    assert [len(picture.faces) for picture in answers] == [1, 0, 0]
    assert answers[1].reason == "the box 2000,30 160x160 is outside of its 420x200 pixels"


def test_transfers_to_the_device_are_explicit(predictor, photo):
    earlier = jax.config.jax_transfer_guard
    jax.config.update("jax_transfer_guard", "disallow")
    try:
        assert len(predictor(photo)) == 2
    finally:
        jax.config.update("jax_transfer_guard", earlier)


def test_an_opencv_that_cannot_be_loaded(monkeypatch, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be loaded: libGL[\s\S]*opencv-python-headless"):
        detector.use_one_thread()


def test_a_damaged_pillow_image_does_not_stop_the_others(predictor, photo):
    damaged = Image.open(io.BytesIO(drawn_photos.encode(photo, "JPEG")[:2000]))
    first, second = predictor.pictures([damaged, photo])
    assert first.status == "unreadable" and "truncated" in first.reason and len(second.faces) == 2


def test_pictures_without_faces_do_not_wait_for_a_batch(predictor, photo):
    read = []
    sources = (read.append(i) or (photo[:9, :9] if i else photo) for i in range(1000))
    first = next(predictor.pictures(sources, previews=100))
    assert len(first.faces) == 2 and first.preview.shape[1] == 100
    assert len(read) < 100 + parallel_map.AHEAD * os.cpu_count()


def test_weights_are_checked_before_they_are_used(shipped, tmp_path):
    for name in ("one.json", "one.safetensors"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    assert Predictor(weights="one", weights_dir=tmp_path).members[0].temperatures == (1.5, 0.8)
    damaged = bytearray((shipped / "one.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "one.safetensors").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        Predictor(weights="one", weights_dir=tmp_path)
    (tmp_path / "one.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        Predictor(weights="one", weights_dir=tmp_path)
    (tmp_path / "one.json").write_text('{"schema": 1}')
    with pytest.raises(CheckpointError, match="card of the weights is damaged"):
        Predictor(weights="one", weights_dir=tmp_path)
    with pytest.raises(ConfigError, match="use one of default, one, two"):
        Predictor(weights="three", weights_dir=shipped)


HUGE = {"temperatures": [10**400, 1]}  # no float is that large


def test_impossible_cards_from_elsewhere_are_refused(shipped, tmp_path):
    card = json.loads((shipped / "one.json").read_text())
    model, fitted = card["config"]["model"], card["calibration"]
    content = (shipped / "one.safetensors").read_bytes()
    arrays = safetensors.numpy.load(content)
    infinite = safetensors.numpy.save(arrays | {min(arrays): np.full_like(arrays[min(arrays)], np.inf)})

    def refuses(message, fields, content=content):
        (tmp_path / "own.safetensors").write_bytes(content)
        own = card | {"sha256": hashlib.sha256(content).hexdigest()} | fields
        (tmp_path / "own.json").write_text(json.dumps(own if "digest" in fields else files.seal(own)))
        with pytest.raises(CheckpointError, match=message) as caught:
            Predictor(weights="own", weights_dir=tmp_path)
        assert "install the package again" not in caught.value.fix  # they are not those of the package

    refuses("its digest is of another content", {"digest": "0" * 64})
    of_members = ({"members": names} for names in ([], ["a", "a"], ["own"], "one", [1]))
    for fields in ({"temperatures": [0, 1]}, {"chip_size": 10**7}, *of_members, HUGE):
        refuses("card of the weights is damaged", fields)
    for fields in ({"calibration": [1]}, {"calibration": "x"}, {"config": "x"}, {"config": []}):
        refuses("calibration or config is not an object", fields)
    parts = ({}, {"data": {}}, {"data": {"image_size": "x"}}, {"data": {"image_size": 32}, "eval": {"views": "all"}})
    for part in parts:
        refuses("describes no net", {"config": {"model": model} | part})
    refuses("weights are damaged", {}, b"no tensors" * 9)
    refuses("is not finite", {}, infinite)
    wrong = (
        {"rests": []},
        {"bucket_years": ["x"] * 12},
        {"unsure": {}},
        {"over": {}},
        {"open_from": 99},
        {"n": None},
        {"n": 10**400},
    )
    for fields in (*wrong, {"image": {"brightness": 1, "contrast": 2}}):
        refuses("the calibration cannot be used", {"calibration": fitted | fields})


def test_bad_arguments_are_refused(shipped):
    wrongs = {"detector": ["haar"], "score": [0.0], "batch_size": [0, 2.5], "coverage": [1.0], "over": [200, (18.5,)]}
    for wrong in ({name: value} for name, values in wrongs.items() for value in values):
        with pytest.raises(ConfigError):
            Predictor(weights_dir=shipped, **wrong)
    with pytest.raises(ConfigError, match="no weights in the folder"):
        Predictor(weights_dir=shipped / "absent")
    with pytest.raises(ConfigError, match="name either"):
        Predictor("runs/ran", weights="one")
    with pytest.raises(ConfigError, match="name either"):
        Predictor("runs/ran", weights_dir=shipped)
    for checkpoint in ("latest", 3):
        with pytest.raises(ConfigError, match="only runs have checkpoints"):
            Predictor(weights_dir=shipped, checkpoint=checkpoint)
        with pytest.raises(ConfigError, match="only runs have checkpoints"):
            explained_nets.choose([], "one", str(shipped), checkpoint)
    for unused in ({"name": "own"}, {"about": "about.json"}):
        with pytest.raises(ConfigError, match="for the cards of weights, and none are written"):
            calibrate.calibrate(["runs/absent"], **unused)
    for name in ("ran", "../up", ".hidden", "", "export"):
        with pytest.raises(ConfigError, match="cannot be called 'ran'|is not a name of weights"):
            calibrate._check_name(name, ["ran", "resnet"])
    with pytest.raises(CheckpointError, match="no run in the workdir"):
        Predictor("runs/absent")
    with pytest.raises(ConfigError, match="a run is named twice"):
        Predictor("runs/absent", "runs/../runs/absent")


def test_runs_use_the_thresholds_of_their_val_split(tmp_path, monkeypatch, photo):
    monkeypatch.setattr(calibration, "ENOUGH", 20)
    config = tiny_runs.make_config(tmp_path, 260)
    workdirs = [
        str(tiny_runs.make_run(tmp_path / "runs" / name, config, seed=seed, test=not seed))
        for seed, name in enumerate(("ran", "resnet"))
    ]
    own = Predictor(workdirs[0])
    stored = json.loads((tmp_path / "runs" / "ran" / "answers.json").read_text())
    assert own.calibration.n == stored["ensembles"]["ran"]["answers"]["n"] >= 20 and own(photo)[0].calibrated
    assert Predictor(*workdirs).calibration is None
    stale = stored | {"ensembles": {"ran": stored["ensembles"]["ran"] | {"checkpoints": ["0" * 64]}}}
    (tmp_path / "runs" / "ran" / "answers.json").write_text(json.dumps(files.seal(stale)))
    assert Predictor(workdirs[0]).calibration is None  # fitted on another checkpoint
    calibrate.calibrate(workdirs, out=str(tmp_path / "weights"))
    both, exported = Predictor(*workdirs), Predictor(weights_dir=tmp_path / "weights")
    copy = shutil.copytree(workdirs[1], tmp_path / "copy" / "resnet")
    other = tiny_runs.make_run(tmp_path / "other" / "resnet", config, seed=2, test=False)
    assert Predictor(workdirs[0], copy).calibration == both.calibration  # the same checkpoint elsewhere
    assert Predictor(workdirs[0], other).calibration is None  # of the same name and step
    renamed = [shutil.copytree(workdir, tmp_path / "moved" / f"run{i}") for i, workdir in enumerate(workdirs)]
    assert Predictor(*renamed).calibration == both.calibration
    assert Predictor(*reversed(workdirs)).calibration == both.calibration  # the mean has no order
    assert Predictor(workdirs[1]).calibration is None
    assert both.calibration.n == own.calibration.n and exported.calibration == both.calibration
    values = [[(face.age, face.p_female) for face in model(photo)] for model in (both, exported)]
    np.testing.assert_allclose(*values, atol=0.02)  # float16
    with pytest.raises(CheckpointError, match="is missing"):
        loading.checkpoint_digest(workdirs[0], 10**6)  # as if the training had removed it
    path = tmp_path / "runs" / "ran" / "calibration.json"
    path.write_text(json.dumps(files.seal(json.loads(path.read_text()) | {"age_temperature": 2.0})))
    assert Predictor(*workdirs).calibration is None  # it was fitted with another temperature
    before = {file.name: file.read_bytes() for file in (tmp_path / "weights").iterdir()}
    record = pathlib.Path(other) / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"command": ["launch/train.py", "--config.seed=2"]}))
    for again, name in ((other, "ran"), (workdirs[1], "default")):  # one of another seed; one net, not an ensemble
        with pytest.raises(ConfigError, match="--weights_out holds other results: .*json, a card of other weights"):
            calibrate.calibrate([str(again)], out=str(tmp_path / "weights"), name=name)
    assert {file.name: file.read_bytes() for file in (tmp_path / "weights").iterdir()} == before
    (tmp_path / "about.json").write_text(json.dumps({"licence": "CC BY 4.0", "sha256": "0", "config": {}}))
    calibrate.calibrate(workdirs, out=str(tmp_path / "weights"), about=str(tmp_path / "about.json"))
    card = weights.card("ran", tmp_path / "weights")
    weights.load(card, tmp_path / "weights")
    assert card.about["licence"] == "CC BY 4.0"
    assert card.about["split_sha256"] and card.about["source"]["fingerprint"] and card.about["storage"] == "float16"


@pytest.mark.parametrize(
    ("accuracy", "text"), [(None, "gender is unsure for all"), (0.9, "for 50.0% of them with accuracy 0.9,")]
)
def test_the_line_on_thresholds(accuracy, text):
    fitted = {"n": 40, "unsure": {"share": 0.5 if accuracy else 0.0, "accuracy": accuracy}}
    assert text in calibrate._line(fitted) and "None" not in calibrate._line(fitted)


def test_the_card_of_a_member_is_calibrated_on_images_of_its_own_size(tmp_path, monkeypatch):
    (tmp_path / "splits.csv").write_text("")
    sizes, cards = {"a": 32, "b": 64}, {}
    run = types.SimpleNamespace(splits=tmp_path / "splits.csv", read_run=dict)
    members = [types.SimpleNamespace(name=name, step=name, temperatures=None, parameters=1) for name in sizes]

    def loaded(path, step):
        return None, None, {"model": {}, "data": {"image_size": sizes[step]}}, step

    monkeypatch.setattr(calibrate, "load_checkpoint", loaded)
    monkeypatch.setattr(calibrate, "fit", lambda members, dataset, size: {members[0].name: size})
    monkeypatch.setattr(calibrate.weights, "write", lambda folder, file, _, fields: cards.update({file: fields}))
    monkeypatch.setattr(calibrate.weights, "write_ensemble", lambda folder, name, fields: cards.update({name: fields}))
    run.path = tmp_path
    calibrate._write_weights(tmp_path, [run, run], members, {"both": 64}, None, "own", {})
    fitted = {name: card["calibration"] for name, card in cards.items()}
    assert fitted == {"a": {"a": 32}, "b": {"b": 64}, "own": {"both": 64}}
    members[0].name = "export"
    calibrate._write_weights(tmp_path, [run, run], members, {}, None, "own", {})
    assert cards["own"]["members"] == ["export-2", "b"] and "export" not in cards


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_the_example_of_the_documentation_runs(page, shipped, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "FOLDER", shipped)
    (tmp_path / "photo.jpg").write_bytes(drawn_photos.encode(photo, "JPEG"))
    monkeypatch.chdir(tmp_path)
    text = (pathlib.Path(__file__).parents[1] / page).read_text()
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    assert len(capsys.readouterr().out.splitlines()) == 2
