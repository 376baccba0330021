"""SIFT of facial regions after Kim et al. 2018: the descriptors, and predictions compared with scikit-learn."""

import functools
import importlib.util

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax.models import region_sift
from agegender_jax.solve import region_sift as fit_sift

DRAW = np.random.default_rng(0)


def test_sift_of_ramps_and_of_a_constant_image():
    right = np.broadcast_to(np.arange(200.0, dtype=np.float32) / 2, (200, 200))
    sift = jax.jit(region_sift.sift)
    both, down, flat, brighter = np.asarray(sift(jnp.stack([right, right.T, right * 0, 2 * right + 40])))
    cells = both[69].reshape(4, 4, 8)  # of a point whose window lies inside
    np.testing.assert_allclose(cells[..., 1:], 0, atol=1e-6)
    expected = np.full((4, 4), 0.2535)
    expected[[0, 0, 3, 3], [0, 3, 0, 3]] = 0.2392
    np.testing.assert_allclose(cells[..., 0], expected, atol=1e-4)
    np.testing.assert_allclose(down[69].reshape(16, 8)[:, [0, 1, 2, 3, 4, 5, 7]], 0, atol=1e-6)
    np.testing.assert_array_equal(flat, 0)
    np.testing.assert_allclose(brighter, both, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: region_sift.describe(x).sum()))(jnp.zeros((1, 200, 200)))
    assert np.isfinite(gradient).all()


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
def test_sift_agrees_with_opencv():
    import cv2

    noise = cv2.GaussianBlur(DRAW.uniform(0, 255, (200, 200)).astype(np.float32), (0, 0), 3)
    image = np.uint8(255 * (noise - noise.min()) / np.ptp(noise))
    points = [cv2.KeyPoint(float(x), float(y), 8, 0) for x, y in region_sift.POINTS]
    _, theirs = cv2.SIFT_create().compute(image, points)
    ours = np.asarray(region_sift.sift(jnp.float32(image)[None]))[0]
    assert (ours * theirs / np.linalg.norm(theirs, axis=1, keepdims=True)).sum(1).mean() > 0.97


@functools.cache
def problem(seed=0):
    """Return descriptors of 120 and 40 examples that depend on gender and age, and their labels."""
    draw = np.random.default_rng(seed)
    targets, descriptors = {}, []
    for split, count in (("train", 120), ("val", 40)):
        age, gender = draw.integers(0, 4, count), draw.integers(0, 2, count)
        x = 0.3 * draw.standard_normal((count, 30))
        x[np.arange(count), age] += 1
        x[:, 5] += 2 * gender
        descriptors.append(x.astype(np.float32))
        targets[split] = (np.stack([age, age], 1), gender)
    return *descriptors, targets


@pytest.mark.parametrize("classifier", region_sift.CLASSIFIERS)
def test_jax_predicts_the_same_as_scikit_learn(classifier, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(region_sift, "describe", lambda images: images[:, 0, :30])
    monkeypatch.setattr(region_sift, "grey", lambda images, size: images[..., 0])
    train, val, targets = problem()
    params = fit_sift.fit(train, val, targets, classifier, 12)
    net = region_sift.RegionSift(12, classifier, support=0 if classifier == "lda" else len(train))
    images = jnp.zeros((40, 32, 32, 3)).at[:, 0, :30, 0].set(val)
    outputs = net.apply({"params": params}, images, train=False)
    age, gender = targets["val"]
    assert (outputs.gender_logits.argmax(1) == gender).mean() > 0.9
    assert (outputs.age_logits.argmax(1) == age[:, 0]).mean() > 0.7
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)
    if classifier == "rbf":
        from sklearn.svm import SVC

        x, x_val = (fit_sift._apply(params["pca"], rows) for rows in (train, val))
        svc = SVC(C=1.0, gamma=1.0).fit(x, targets["train"][0][:, 0] == 2)
        score = np.asarray(outputs.age_logits)[:, 2] / params["age_scale"]
        np.testing.assert_allclose(score, svc.decision_function(x_val), atol=1e-4)
        svc = SVC(C=1.0, gamma=1.0).fit(x, targets["train"][1])
        scaled = (
            params["gender_scale"]["kernel"][0, 1] * svc.decision_function(x_val) + params["gender_scale"]["bias"][1]
        )
        np.testing.assert_allclose(outputs.gender_logits[:, 1], scaled, rtol=1e-3, atol=1e-3)


def test_the_fit_uses_val_only_for_its_factors():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    train, val, targets = problem()
    params = fit_sift.fit(train, val, targets, "flat", 12)
    poisoned = targets | {"val": (3 - targets["val"][0], 1 - targets["val"][1])}
    other = fit_sift.fit(train, val, poisoned, "flat", 12)
    for name in ("pca", "gender_svm", "lda_all", "age_svm_all"):
        for leaf, value in params[name].items():
            np.testing.assert_array_equal(value, other[name][leaf])
    assert (params["gender_scale"]["kernel"] != other["gender_scale"]["kernel"]).any()
