"""The demo's predictions for a photo, without its web page."""

import base64
import io
import re

import drawn_photos
import numpy as np
import pytest
import small_weights
from PIL import Image

from agegender_jax.explain.attention import AttentionMaps
from agegender_jax.explain.maps import Maps
from agegender_jax.photos import face_flags
from agegender_jax.prediction.face import Face, Picture
from agegender_jax.prediction.faces_from_probs import CHILD, UNUSUAL
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.report import overlay, photo_predictions
from agegender_jax.run.demo import photo_predictor
from agegender_jax.structs import Probs


@pytest.fixture(scope="module")
def predict_photo(tmp_path_factory):
    weights = small_weights.write(tmp_path_factory.mktemp("weights"))
    return photo_predictor.PhotoPredictor(Predictor(weights_dir=weights, batch_size=1), ["grad_cam"])


@pytest.fixture(scope="module")
def crowd():
    photo = drawn_photos.background(160, 300)
    for i in range(2):
        photo = drawn_photos.paste(photo, drawn_photos.face(2 + i), (80 + 140 * i, 80), 130)
    return drawn_photos.encode(photo)


def pictures(html):
    """Return the embedded pictures of HTML, uint8 RGB."""
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(encoded) == html.count("<img")
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in encoded]


def test_each_face_has_its_prediction_and_maps_of_each_net(predict_photo, crowd):
    html = predict_photo(crowd)
    (picture,) = predict_photo.predictor.pictures([crowd])
    assert len(picture.faces) == 2 and "2 faces, numbered from the left" in html
    for i, face in enumerate(picture.faces, 1):
        low, high = face.age_interval
        assert (
            f"Face {i}: {face.age:.0f} years, {face.gender}" in html and f"Age {low} to {high} (90 % interval)" in html
        )
        assert f"{face.gender.capitalize()} with a probability of {100 * face.confidence:.0f} %" in html
    assert html.count("<figure>") == html.count(": Grad-CAM</figcaption>") == 2 * 2 * 2  # faces, nets and heads
    photo, *rest = pictures(html)
    assert photo.shape == (160, 300, 3) and {image.shape for image in rest} == {(160, 160, 3)} and len(rest) == 10
    assert "http" not in html and "<script" not in html


def test_only_the_first_faces_of_a_crowd_are_explained(predict_photo, crowd, monkeypatch):
    monkeypatch.setattr(photo_predictor, "EXPLAINED", 1)
    html = predict_photo(crowd)
    assert "2 faces, numbered from the left; maps of the first 1." in html
    assert html.count("<section>") == 2 and html.count("<figure>") == 4


@pytest.mark.parametrize(
    "content, text",
    [
        (drawn_photos.encode(drawn_photos.background(80, 90)), "No face was found in this photo."),
        (b"<html>", "This file cannot be used: not a JPEG, PNG, WEBP, BMP or GIF image."),
        (b"", "This file cannot be used: empty file."),
    ],
)
def test_a_photo_without_a_prediction_gets_a_message(predict_photo, content, text):
    html = predict_photo(content)
    assert text in html and "<section>" not in html


def test_compiling_reports_each_net(predict_photo):
    steps = []
    predict_photo.compile(lambda *step: steps.append(step))
    assert steps == [(0, 2, "compiling one"), (1, 2, "compiling two"), (2, 2, "compiling")]


def example(size=8, **changed):
    """Return a picture of one face with 8 and 16 pixels, and maps of a net with attention for `size`."""
    sized = {side: np.full((side, side, 3), 100, np.uint8) for side in (8, 16)}
    fields = {
        "age": 30.0,
        "age_interval": (20, 49),
        "coverage": 0.9,
        "age_bucket": "30-39",
        "age_probs": (),
        "score": 1,
    }
    fields |= {"gender": "male", "p_female": 0.4, "box": (0, 0, 9, 9), "landmarks": None, "flags": (), "status": "ok"}
    face = Face(**fields | {"over": {}, "calibrated": True, "picture": "photo", "sized": sized} | changed)
    picture = Picture("photo", "ok", "", (face,), np.full((20, 30, 3), 90, np.uint8), 1.0)
    values = np.linspace(-1, 1, size * size, dtype=np.float32).reshape(1, size, size)
    module = AttentionMaps("stage1_att1", (2, 2), values, values[:, None], np.zeros((1, 1), np.int32))
    attributions = {"age": {"lrp": values}, "gender": {"grad_cam": abs(values)}}
    targets = {"age": np.array([3]), "gender": np.array([0])}
    return picture, [[("ran", Maps(Probs(np.zeros((1, 12)), np.zeros((1, 2))), targets, (module,), attributions, {}))]]


@pytest.mark.parametrize("size", [8, 16])
def test_attention_and_attributions_are_drawn_over_the_input_of_the_net(size):
    html = photo_predictions.html(*example(size))
    titles = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert titles == ["age 30-39: LRP", "gender male: Grad-CAM", "attention stage1_att1"]
    _, chip, lrp, grad_cam, attention = pictures(html)
    first, last = (lrp[pixel].astype(int) for pixel in ((3, 3), (-4, -4)))
    assert first[2] > first[0] + 50 and last[0] > last[2] + 50  # blue against the class, red for it
    assert np.ptp(chip) < 5 and np.ptp(attention) > 100 and np.ptp(grad_cam) > 100


def test_an_open_last_group_has_its_own_name_and_is_what_the_nets_are_asked_for(monkeypatch, predict_photo):
    picture, [[(name, maps)]] = example()
    joined = maps.replace(open_from=3)
    assert "age 30+: LRP" in photo_predictions.html(picture, [[(name, joined)]])
    seen = []
    monkeypatch.setattr(photo_predictor, "compute_maps", lambda *_, open_from, methods: seen.append(open_from))
    monkeypatch.setattr(predict_photo.predictor.faces_from_probs, "open_from", 7)
    predict_photo.compile()
    assert seen == [7, 7]


def test_uncertainty_and_warnings_are_shown():
    html = photo_predictions.html(*example(status="unsure", flags=("tilted", "child"), calibrated=False))
    assert "unsure</b>" in html and "the face is tilted; probably a child: gender is not reliable." in html
    assert "no thresholds from val" in html
    plain = photo_predictions.html(*example())
    assert "unsure</b>" not in plain and "Warnings" not in plain and "no thresholds" not in plain


def test_every_flag_has_a_warning():
    measured = {face_flags.SMALL, face_flags.TILTED, face_flags.CUT_OFF, face_flags.GREY, face_flags.SWAPPED}
    assert set(photo_predictions.WARNINGS) == measured | {CHILD, UNUSUAL}


def test_names_are_escaped():
    picture, [[(_, maps)]] = example()
    html = photo_predictions.html(picture, [[("<script>alert(1)</script>", maps)]])
    assert "<script" not in html and "&lt;script&gt;" in html


def test_a_blended_map_covers_by_its_size():
    picture = np.full((1, 3, 3), 100, np.uint8)
    blended = overlay.blended(overlay.Panel(picture, "", np.array([[0.0, 0.0, 1.0]]), "positive"))
    assert blended.dtype == np.uint8 and (blended[0, :2] == 100).all() and blended[0, 2].mean() > 150
    constant = overlay.blended(overlay.Panel(picture, "", np.ones((1, 3)), "mask"))
    assert (constant == 100).all()
