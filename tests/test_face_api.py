"""How predictions of face-api.js are scored; running it needs Node and its package."""

import sys

import numpy as np
import pytest

from benchmarks import face_api

ROWS = [
    {"age": 25.9, "gender": "female", "genderProbability": 0.9},
    {"age": 130.0, "gender": "male", "genderProbability": 0.6},
    {"age": 9.99, "gender": "male", "genderProbability": 0.7},
]


def test_predictions_become_buckets_and_probabilities():
    age, gender = face_api.probabilities(ROWS)
    assert age.argmax(1).tolist() == [2, 11, 0] and (age.sum(1) == 1).all()
    np.testing.assert_allclose(gender, [[0.1, 0.9], [0.6, 0.4], [0.7, 0.3]])


def test_scores_of_predictions():
    age, years = np.array([[2, 2], [7, 11], [3, 3]]), np.array([30, -1, 35])
    result = face_api.score(ROWS, age, np.array([1, 0, 1]), years)
    assert result["n"] == 3 and result["mae_years"] == pytest.approx((4.1 + 25.01) / 2)
    values = {name: score["value"] for name, score in result["scores"].items()}
    assert values == pytest.approx({"age_accuracy": 2 / 3, "gender_accuracy": 2 / 3, "aabd": 1.0})


def test_a_program_that_ends_early_is_an_error(tmp_path, monkeypatch):
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho greeting\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises((RuntimeError, BrokenPipeError)):
        list(face_api.predict([np.zeros((2, 2, 3), np.uint8)] * 3, tmp_path))


def test_images_are_handed_over_one_by_one(tmp_path, monkeypatch):
    program = tmp_path / "node"
    lines = ["import json, struct, sys", "print('hello', flush=True)", "while header := sys.stdin.buffer.read(8):"]
    lines += [
        "    height, width = struct.unpack('<II', header)",
        "    pixels = sys.stdin.buffer.read(3 * height * width)",
    ]
    lines += [
        "    print(json.dumps({'age': sum(pixels), 'shape': [height, width]}, separators=(',', ':')), flush=True)"
    ]
    program.write_text(f"#!{sys.executable}\n" + "\n".join(lines) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    images = [np.ones((2, 3, 3), np.uint8), np.full((4, 1, 3), 2, np.uint8)]
    assert list(face_api.predict(images, tmp_path)) == [{"age": 18, "shape": [2, 3]}, {"age": 24, "shape": [4, 1]}]
