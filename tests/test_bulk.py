"""The pictures that benchmarks.bulk measures with, and the commands that it runs."""

import numpy as np
import pytest

from agegender_jax import synthetic
from agegender_jax.data.decoding import decode
from agegender_jax.photos import detector
from benchmarks import bulk


def test_the_detector_finds_every_face_of_a_drawn_photo(tmp_path):
    photo = synthetic.draw_photo()
    assert photo.shape == (320, 960, 3) and len(detector.detect(photo)) == len(synthetic.photos.PEOPLE)
    synthetic.write_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(decode((tmp_path / "photo.png").read_bytes()), photo)
    assert (synthetic.draw_photo(seed=2) != photo).any()
    assert decode(bulk.draw_photo(1)).shape == (720, 960, 3) and decode(bulk.draw_chip(0)).shape == (112, 112, 3)


def test_contents_are_written_in_turn(tmp_path):
    folder = bulk.many(tmp_path / "pictures", 5, [b"a", b"b"])
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [b"a", b"b", b"a", b"b", b"a"]


def test_a_command_that_fails_ends_the_measurement(tmp_path):
    with pytest.raises(SystemExit, match="ended with 3"):
        bulk.command([tmp_path / "absent.jpg"], tmp_path / "out", [])
