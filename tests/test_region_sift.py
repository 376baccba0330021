"""SIFT of facial regions after Kim et al. 2018: the descriptors, and predictions compared with scikit-learn."""

import functools
import importlib.util

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import synthetic
from agegender_jax.models import region_sift, sizes
from agegender_jax.solve import region_sift as fit_sift

DRAW = np.random.default_rng(0)
OPENCV_BLUR = (1.6**2 - 0.5**2) ** 0.5  # OpenCV smooths an image first, which changes drawn edges


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
    sift = jax.jit(region_sift.sift)
    points = [cv2.KeyPoint(float(x), float(y), 8, 0) for x, y in region_sift.POINTS]

    def cosine(image, blur=0.0):
        """Return the mean over the points where the image is not constant."""
        _, theirs = cv2.SIFT_create().compute(image, points)
        smooth = cv2.GaussianBlur(np.float32(image), (0, 0), blur) if blur else np.float32(image)
        ours, norms = np.asarray(sift(smooth[None]))[0], np.linalg.norm(theirs, axis=1)
        return ((ours * theirs).sum(1)[norms > 0] / norms[norms > 0]).mean()

    assert cosine(image) > 0.97
    rng = np.random.default_rng(0)
    faces = [synthetic.draw_face(rng, *synthetic.sample_label(rng), 200)[0] for _ in range(3)]
    assert min(cosine(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), OPENCV_BLUR) for face in faces) > 0.99


@pytest.mark.parametrize("classifier", region_sift.CLASSIFIERS)
def test_every_product_of_a_prediction_is_counted(classifier):
    """XLA counts a multiply-add as two operations, and also what is not a product of matrices."""
    net = region_sift.RegionSift(12, classifier, support=500)
    images = jax.ShapeDtypeStruct((1, 200, 200, 3), np.float32)
    variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)
    apply = jax.jit(lambda variables, x: vars(net.apply(variables, x, train=False)))
    operations = apply.lower(variables, images).cost_analysis()["flops"]
    assert 0.85 < 2 * sizes.count(net, 200)[1] / operations <= 1


def test_windows_beyond_the_border_see_zeros(monkeypatch):
    maps = np.float32(DRAW.uniform(size=(200, 200, 8)))
    monkeypatch.setattr(region_sift, "_orientations", lambda images: jnp.asarray(maps)[None])
    actual = np.asarray(jax.jit(lambda x: region_sift.sift(x))(jnp.zeros((1, 200, 200))))[0]
    padded, offsets = np.pad(maps, ((40, 40), (40, 40), (0, 0))), 12 * (np.arange(4) - 1.5)
    for n in (int(region_sift.POINTS[:, 1].argmin()), int(region_sift.POINTS[:, 0].argmax())):
        x, y = region_sift.POINTS[n]
        rows, columns = (np.maximum(1 - np.abs(np.arange(-40, 240) - p - offsets[:, None]) / 12, 0) for p in (y, x))
        weights = np.exp(-((offsets / 12) ** 2) / 8)
        cells = np.einsum("ry,cx,yxo->rco", rows * weights[:, None], columns * weights[:, None], padded).ravel()
        expected = np.minimum(cells / np.linalg.norm(cells), 0.2)
        np.testing.assert_allclose(actual[n], expected / np.linalg.norm(expected), atol=1e-5)


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


@pytest.fixture
def of_descriptors(monkeypatch):
    """Return a function from parameters and descriptors [N, 30] to the outputs of the net."""
    monkeypatch.setattr(region_sift, "describe", lambda images: images[:, 0, :30])
    monkeypatch.setattr(region_sift, "grey", lambda images, size: images[..., 0])

    def outputs(net, params, descriptors):
        images = jnp.zeros((len(descriptors), 32, 32, 3)).at[:, 0, :30, 0].set(descriptors)
        return net.apply({"params": params}, images, train=False)

    return outputs


def net_of(classifier, train):
    return region_sift.RegionSift(12, classifier, support=0 if classifier == "lda" else len(train))


@pytest.mark.parametrize("classifier", region_sift.CLASSIFIERS)
def test_jax_predicts_the_same_as_scikit_learn(classifier, of_descriptors):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    train, val, targets = problem()
    params = fit_sift.fit(train, val, targets, classifier, 12)
    net = net_of(classifier, train)
    outputs = of_descriptors(net, params, val)
    age, gender = targets["val"]
    assert (outputs.gender_logits.argmax(1) == gender).mean() > 0.9
    assert (outputs.age_logits.argmax(1) == age[:, 0]).mean() > 0.7
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))["params"]
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
        return
    ages, genders = targets["train"][0][:, 0], targets["train"][1]
    x, x_val = (fit_sift._apply(params["pca"], rows) for rows in (train, val))
    if classifier == "lda":
        np.testing.assert_allclose(outputs.age_logits[:, :4], lda(x, ages).decision_function(x_val), atol=1e-3)
        difference = outputs.gender_logits[:, 1] - outputs.gender_logits[:, 0]
        np.testing.assert_allclose(difference, lda(x, genders).decision_function(x_val), atol=1e-3)
        return
    every = np.ones(len(x), bool)
    kinds = [every, every] if classifier == "flat" else [genders == 0, genders == 1]
    scores = np.stack([age_scores(x[kind], ages[kind], x_val) for kind in kinds])
    expected = scores[np.asarray(outputs.gender_logits.argmax(1)), np.arange(len(x_val))]
    np.testing.assert_allclose(outputs.age_logits[:, :4] / params["age_scale"], expected, atol=1e-3)


@pytest.mark.parametrize("classifier", region_sift.CLASSIFIERS)
def test_people_of_a_hundred_are_predicted_as_rarely_as_they_are_in_train(classifier, of_descriptors):
    """They are one class with those of 90, so that val images of 100 years are no worse than others."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    train, val, targets = problem()
    old = {split: (np.where(age == 3, 9, age), gender) for split, (age, gender) in targets.items()}
    hundred = np.flatnonzero(old["train"][0][:, 0] == 9)[:3]
    old["train"][0][hundred] = 10
    centenarian = old["val"][0].copy()
    centenarian[np.flatnonzero(centenarian[:, 0] == 9)[:2]] = 10
    absent = old["val"][0].copy()
    absent[np.flatnonzero(absent[:, 0] == 2)[:2]] = 5
    nets = [
        fit_sift.fit(train, val, old | {"val": (ages, old["val"][1])}, classifier, 12)
        for ages in (old["val"][0], centenarian, absent)
    ]
    net = net_of(classifier, train)
    logits, merged, rare = (np.asarray(of_descriptors(net, of, val).age_logits) for of in nets)
    np.testing.assert_array_equal(merged, logits)
    counts = np.bincount(old["train"][0][:, 0], minlength=12)[9:] + 1
    shares = np.log(counts / counts[0])
    np.testing.assert_allclose(logits[:, 9:] - logits[:, 9:10], np.tile(shares, (40, 1)), atol=1e-4)
    assert logits[:, 3:9].max() < logits.max(1).min() and logits.argmax(1).max() == 9
    if classifier != "lda":
        known = absent[:, 0] != 5
        without = fit_sift.fit(train, val[known], old | {"val": (absent[known], old["val"][1][known])}, classifier, 12)
        assert nets[2]["age_scale"] == without["age_scale"]
        np.testing.assert_allclose(rare[:, 5], fit_sift.NONE_RIGHT * nets[2]["age_scale"], rtol=1e-5)


def lda(x, classes):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="svd").fit(x, classes)


def age_scores(x, ages, x_val):
    """Return scikit-learn's scores of the four classes, one against the rest."""
    from sklearn.svm import SVC

    discriminants = lda(x, ages)
    z, z_val = discriminants.transform(x), discriminants.transform(x_val)
    machines = [SVC(C=0.3, gamma="scale").fit(z, ages == age) for age in range(4)]
    return np.stack([machine.decision_function(z_val) for machine in machines], 1)


def test_the_fit_uses_val_only_for_its_factors():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    train, val, targets = problem()
    params = fit_sift.fit(train, val, targets, "flat", 12)
    poisoned = targets | {"val": (3 - targets["val"][0], 1 - targets["val"][1])}
    other = fit_sift.fit(train, -3 * val, poisoned, "flat", 12)
    for name in ("pca", "gender_svm", "lda_all", "age_svm_all"):
        for leaf, value in params[name].items():
            if (name, leaf) == ("age_svm_all", "bias"):  # of buckets above OLDEST: it depends on a factor
                value, other[name][leaf] = (of[name][leaf][: fit_sift.OLDEST + 1] for of in (params, other))
            np.testing.assert_array_equal(value, other[name][leaf])
    assert (params["gender_scale"]["kernel"] != other["gender_scale"]["kernel"]).any()
