"""The systems after [16], [19], [21], [22] and [27]: published sizes, their own rules, and what their parts compute."""

import functools
import importlib.util
import itertools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from test_models import shapes_of

from agegender_jax import data, ensemble, models, parallel, report, training
from agegender_jax.errors import ConfigError
from agegender_jax.explain import patches
from agegender_jax.models import deep_attention, frequency_critic, initializers, local_dnn, region_sift, sizes
from agegender_jax.models.grey import grey
from agegender_jax.solve import elm, scale
from agegender_jax.solve import region_sift as fit_sift
from agegender_jax.structs import Batch

DRAW = np.random.default_rng(0)


def parameters(name, size, **options):
    return sizes.count(models.build(name, num_age_classes=12, **options), size)[0]


def test_parameters_with_both_heads():
    own = {"gender_to_age": "none"}
    assert parameters("deep_attention", 96) == 184_551
    assert parameters("deep_attention", 96, patches="none") == 136_198
    assert parameters("local_dnn", 64, **own, edges=False) == 566_286
    assert parameters("local_dnn", 64, **own, edges=False, points="nine") == 591_374
    assert parameters("local_dnn", 64, **own) == 566_286 + 1_449_998
    assert sizes.count(models.classifier("plain_cnn", num_classes=2), 64)[0] == 388_896 + 514
    elm_net = models.build("levi_hassner", num_age_classes=12, **own, head="elm")
    shapes = shapes_of(elm_net, 32)["params"]
    assert shapes["random"]["kernel"].size + shapes["random"]["bias"].size == 513_000
    assert shapes["output"]["kernel"].size == 14_000


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"name": "resnet18", "points": "nine"}, "resnet18 has no points"),
        ({"name": "resnet18", "classifier": "lda"}, "resnet18 has no classifier"),
        ({"name": "resnet18", "critics": "none"}, "resnet18 has no critics"),
        ({"name": "resnet18", "grid": 4}, "resnet18 has no grid"),
        ({"name": "local_dnn"}, "local_dnn has gender_to_age='none'"),
        ({"name": "resnet18", "head": "elm"}, "the elm head has gender_to_age='none'"),
        ({"name": "local_dnn", "gender_to_age": "none", "width": 0.5}, "local_dnn has no options of other nets"),
        ({"name": "region_sift", "gender_to_age": "none", "head": "elm"}, "region_sift has no options of other nets"),
    ],
)
def test_options_that_a_system_lacks(fields, message):
    with pytest.raises(ConfigError, match=message):
        models.from_config(fields)


# [19]


@functools.cache
def attention_net(patches="attended"):
    net = models.backbone("deep_attention", width=0.25, patch=12, patches=patches)
    images = jnp.float32(DRAW.standard_normal((2, 36, 36, 3)))
    return net, initializers.init(net, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32)), images


def test_the_grid_is_a_distribution_that_no_fine_pixel_changes():
    net, variables, images = attention_net()
    attend = jax.jit(lambda x: net.apply(variables, x, train=False, method="attend"))
    features, (g,) = attend(images)
    assert g.shape == (2, 3, 3, 1)
    np.testing.assert_allclose(g.sum((1, 2, 3)), 1, rtol=1e-5)
    y, x = np.mgrid[:36, :36]
    other, (fine,) = attend(images + ((x + y) % 2 * 2 - 1.0)[None, :, :, None].astype(np.float32))
    np.testing.assert_allclose(fine, g, atol=1e-5)
    assert np.abs(other - features).max() > 1e-3  # the patches see it


def test_equal_scores_are_the_uniform_control_and_unattended_patches_do_not_count():
    net, variables, images = attention_net()
    params = jax.tree.map(jnp.asarray, variables["params"])
    params["where_grid"] = jax.tree.map(jnp.zeros_like, params["where_grid"])
    features, (g,) = net.apply({"params": params}, images, train=False, method="attend")
    uniform = {"params": {name: leaf for name, leaf in params.items() if name != "where_grid"}}
    expected, _ = net.clone(patches="uniform").apply(uniform, images, train=False, method="attend")
    np.testing.assert_array_equal(g, np.float32(1 / 9))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_patches_of_the_grid_are_the_image():
    images = jnp.float32(DRAW.standard_normal((2, 12, 12, 3)))
    patches = np.asarray(deep_attention.cut(images, 3, 4)).reshape(2, 3, 3, 4, 4, 3)
    np.testing.assert_array_equal(patches.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape), images)
    wide = deep_attention.cut(images, 3, 8)
    np.testing.assert_array_equal(wide[:, 0, 0, 0], images[:, 0, 0])  # edges are repeated
    np.testing.assert_array_equal(wide[:, 4], images[:, 2:10, 2:10])


def test_adaptive_means():
    x = jnp.arange(5.0)[None, None] * jnp.ones((1, 5, 1))
    np.testing.assert_allclose(deep_attention.adaptive_mean(x, 2)[0, 0], [1, 3])
    np.testing.assert_allclose(deep_attention.adaptive_mean(x[:, :2, :2], 3)[0, 0], [0, 0.5, 1])


def test_the_largest_weights_alone():
    g = jnp.array([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(deep_attention.largest(g, 2), [[0, 4 / 7, 0, 3 / 7], [0.5, 0.5, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(deep_attention.largest(g, -1), [[1, 0, 0, 0], [0, 0, 0, 1]], rtol=1e-6)
    net, variables, images = attention_net()
    attend = functools.partial(net.clone(top=1).apply, variables, images, method="attend")
    features, (g,) = jax.jit(functools.partial(attend, train=False))()
    assert (np.sort(g.reshape(2, 9))[:, :-1] == 0).all()
    every, (trained,) = jax.jit(functools.partial(attend, train=True))()
    assert (trained > 0).all() and np.abs(every - features).max() > 1e-3


@pytest.mark.slow
def test_how_few_patches_carry_the_prediction(monkeypatch):
    monkeypatch.setattr(patches, "FEW", (1, 9))  # 9 are all
    backbone, variables, _ = attention_net()
    net = models.AgeGenderNet(backbone, 5, "none")
    images = DRAW.integers(0, 256, (6, 36, 36, 3)).astype(np.uint8)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), data.normalize(images[:1]))
    params = jax.tree.map(lambda leaf: jnp.asarray(DRAW.standard_normal(leaf.shape), jnp.float32), shapes["params"])
    grid = jax.tree.map(lambda leaf: 30 * leaf, variables["params"]["where_grid"])  # one patch has nearly all weight
    variables = {"params": params | {"backbone": variables["params"] | {"where_grid": grid}}}
    chosen = patches.attended(net.clone(backbone=backbone.clone(top=2)), variables, images)
    assert chosen.weights.shape == (6, 9) and chosen.pixels.shape == (6, 9, 12, 12, 3)
    assert chosen.weights.max(1).min() > 0.9
    np.testing.assert_array_equal(chosen.pixels[:, 4], images[:, 12:24, 12:24])
    scores = patches.scores(net, variables, images)
    assert scores["cells"] == 9 and 1 / 9 < scores["largest"] <= 1 and list(scores["few"]) == ["1"]
    alone = ensemble.predict(net.clone(backbone=backbone.clone(top=1)), variables, images).age.argmax(-1)
    same = alone == ensemble.predict(net, variables, images).age.argmax(-1)
    assert scores["few"]["1"]["age"]["largest"] == pytest.approx(same.mean())
    row = scores["few"]["1"]["gender"]
    assert row["largest"] > row["smallest"]
    assert row["difference"]["mean"] == pytest.approx(row["largest"] - row["smallest"])
    assert patches.has_patches(net) and not patches.has_patches(models.build("resnet18", num_age_classes=5))
    assert report.patches_grid(images, chosen, ["label"] * 6).startswith(b"\x89PNG")


def test_the_size_of_the_paper():
    net = models.backbone("deep_attention", trunk="vgg16", patch=160)
    images = jax.ShapeDtypeStruct((1, 448, 448, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x), images)["params"]
    dense = (7 * 7 * 512 + 1) * 4096 + (4096 + 512 + 1) * 4096
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 2 * 14_714_688 + 512 + 1 + dense
    assert {"where5_3", "what1_1", "where_grid"} <= set(shapes)


def test_both_trunks_learn():
    net, variables, images = attention_net()
    gradient = jax.jit(jax.grad(lambda v: net.apply(v, images).sum()))(variables)["params"]
    assert all(np.abs(gradient[name]["kernel"]).max() > 0 for name in ("where1", "where_grid", "what1"))


# [22]


def test_edges_of_a_constant_image_are_zero_with_finite_gradient():
    flat = jnp.full((1, 48, 48), 7.0)
    np.testing.assert_array_equal(local_dnn.edge_map(flat), 0)
    assert np.isfinite(jax.grad(lambda x: local_dnn.edge_map(x).sum())(flat)).all()
    ramp = jnp.broadcast_to(jnp.arange(48.0), (1, 48, 48))
    assert local_dnn.edge_map(ramp).reshape(48, 48)[20, 20] == pytest.approx(8 / 255, rel=1e-2)


def test_patches_of_the_landmarks():
    y, x = np.mgrid[:100, :100]
    image = jnp.float32(x + 100 * y)[None]
    inputs = np.asarray(local_dnn.all_patches(image, "five"))
    assert inputs.shape == (1, 25, 578)
    np.testing.assert_allclose(inputs[0, 0, -2:], [2 * 0.28 - 1, 2 * 0.30 - 1], atol=1e-6)  # the left eye, rounded
    own = np.asarray(image)[0, 30 - 12 : 30 + 12, 28 - 12 : 28 + 12]
    np.testing.assert_allclose(inputs[0, 0, :576], ((own - own.mean()) / (own.std() + 5)).ravel(), atol=1e-4)
    assert local_dnn.all_patches(image, "nine").shape == (1, 45, 627)


def test_a_patch_is_mirrored_with_its_location():
    net = models.build("local_dnn", num_age_classes=12, gender_to_age="none", edges=False)
    image = jnp.broadcast_to(jnp.arange(100.0), (64, 100, 100))
    inputs = np.asarray(net._draw(image, jax.random.key(0)))
    slope = inputs[:, 1] - inputs[:, 0]
    left_to_right = inputs[slope > 0]
    mirrored = inputs[slope < 0]
    assert 16 < len(mirrored) < 48
    points = np.array(local_dnn.POINTS["five"][0])
    for rows, xs in ((left_to_right, points[:, 0]), (mirrored, 1 - points[:, 0])):
        location = (rows[:, -2] + 1) / 2
        assert (np.abs(location[:, None] - xs).min(1) <= 0.0551).all()


def test_the_prediction_of_the_local_net_is_a_mean_of_posteriors():
    net = models.build("local_dnn", num_age_classes=12, gender_to_age="none")
    images = data.normalize(DRAW.integers(0, 256, (2, 40, 40, 3)).astype(np.uint8))
    variables = initializers.init(net, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32))
    outputs = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images)
    np.testing.assert_allclose(np.exp(outputs.age_logits).sum(1), 1, rtol=1e-5)
    params = variables["params"]
    inputs = local_dnn.all_patches(grey(images, 100), "five")
    stack = local_dnn.Stack(12)
    apply = jax.jit(lambda params, x: stack.apply({"params": params}, x, train=False))
    patches = [jax.nn.softmax(apply(params["local"], x)[1]).mean(0) for x in inputs]
    edges = apply(params["edges"], local_dnn.edge_map(grey(images, 48)))
    expected = (np.stack(patches) + jax.nn.softmax(edges[1])) / 2
    np.testing.assert_allclose(np.exp(outputs.gender_logits), expected, rtol=1e-4)
    elsewhere = apply(params["local"], inputs[0].at[:, -2:].set(0))[0]
    assert np.abs(elsewhere - apply(params["local"], inputs[0])[0]).max() > 0


# [21]


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


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="pip install opencv-python-headless")
def test_sift_is_opencvs():
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
def test_jax_predicts_what_scikit_learn_fitted(classifier, monkeypatch):
    pytest.importorskip("sklearn")
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


def test_the_fit_sees_val_for_its_factors_alone():
    pytest.importorskip("sklearn")
    train, val, targets = problem()
    params = fit_sift.fit(train, val, targets, "flat", 12)
    poisoned = targets | {"val": (3 - targets["val"][0], 1 - targets["val"][1])}
    other = fit_sift.fit(train, val, poisoned, "flat", 12)
    for name in ("pca", "gender_svm", "lda_all", "age_svm_all"):
        for leaf, value in params[name].items():
            np.testing.assert_array_equal(value, other[name][leaf])
    assert (params["gender_scale"]["kernel"] != other["gender_scale"]["kernel"]).any()


# [16]


def sums_of(hidden, targets, parts=1):
    sums = elm.Sums()
    for h, t in zip(np.array_split(hidden, parts), np.array_split(targets, parts), strict=True):
        sums.add(h, t)
    return sums


def test_the_solution_is_that_of_least_squares():
    hidden, targets, c = DRAW.standard_normal((50, 8)), DRAW.choice([-1.0, 1.0], (50, 3)), 0.7
    expected = scipy.linalg.lstsq(
        np.concatenate([hidden, np.eye(8) / np.sqrt(c)]), np.concatenate([targets, np.zeros((8, 3))])
    )[0]
    beta = elm.Solver(sums_of(hidden, targets))(c)
    np.testing.assert_allclose(beta, expected, atol=1e-9)
    np.testing.assert_allclose(elm.Solver(sums_of(hidden, targets, 7))(c), beta, atol=1e-12)
    order = DRAW.permutation(50)
    np.testing.assert_allclose(elm.Solver(sums_of(hidden[order], targets[order]))(c), beta, atol=1e-12)
    np.testing.assert_allclose(elm.Solver(sums_of(hidden, targets))(1e12), np.linalg.pinv(hidden) @ targets, atol=1e-6)
    assert np.abs(elm.Solver(sums_of(hidden, targets))(1e-12)).max() < 1e-9
    few = hidden[:5]  # fewer examples than units: the dual form
    dual = few.T @ np.linalg.solve(np.eye(5) / c + few @ few.T, targets[:5])
    np.testing.assert_allclose(elm.Solver(sums_of(few, targets[:5]))(c), dual, atol=1e-9)


def test_one_unit_and_one_class():
    right = np.tile([[1.0, 0.0, 1.0, 0.0]], (6, 1))
    hidden = np.full((6, 1), 0.5)
    beta, report = elm.select(sums_of(hidden, 2 * right - 1), hidden, right)
    assert np.isfinite(beta).all() and np.isfinite(list(report.values())).all()


def test_each_head_has_its_own_constant():
    draw = np.random.default_rng(4)
    hidden = draw.standard_normal((80, 6))
    gender, age = (hidden[:, 0] > 0).astype(int), draw.integers(0, 3, 80)
    right = elm.one_hot(np.stack([age, age], 1), gender, 3)
    _, report = elm.select(sums_of(hidden[:60], 2 * right[:60] - 1), hidden[60:], right[60:])
    assert report["val_loss_gender"] < 0.3 and report["log2_c_age"] < report["log2_c_gender"]


def test_standardisation_has_a_floor_and_streams():
    x = DRAW.standard_normal((30, 4)) * [1, 10, 0, 1e-9] + 1e4
    mean, deviation = elm.standardisation([x[:7], x[7:]])
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation[:2], x.std(0)[:2], rtol=1e-6)
    np.testing.assert_allclose(deviation[2:], 1e-3 * deviation[1])


def test_random_units_do_not_depend_on_the_scale_of_the_features():
    x = DRAW.standard_normal((5, 3))
    kernel, bias = elm.random_layer(0, 10, np.zeros(3), np.ones(3), 2.0)
    again = elm.random_layer(0, 10, np.full(3, 7.0), np.full(3, 100.0), 2.0)
    np.testing.assert_allclose(x @ kernel + bias, (100 * x + 7) @ again[0] + again[1], atol=1e-4)
    assert (
        np.abs(kernel).max() <= 2 / np.sqrt(3) and (kernel != elm.random_layer(1, 10, *np.ones((2, 3)), 2.0)[0]).any()
    )


def test_open_age_groups_are_right_in_each_bucket():
    actual = elm.one_hot(np.array([[1, 3], [2, 2]]), np.array([0, 1]), 4)
    np.testing.assert_array_equal(actual, [[1, 0, 0, 1, 1, 1], [0, 1, 0, 0, 1, 0]])


def test_factors_fit_probabilities():
    logits = DRAW.standard_normal((4000, 3))
    labels = (logits + DRAW.gumbel(size=logits.shape)).argmax(1)
    assert scale.factor(logits / 5, np.eye(3)[labels])[0] == pytest.approx(5, rel=0.1)
    assert scale.cross_entropy(np.zeros((2, 4)), np.ones((2, 4))) == pytest.approx(0)
    score = DRAW.standard_normal(4000)
    gender = (DRAW.uniform(size=4000) < 1 / (1 + np.exp(-(2 * score - 1)))).astype(int)
    a, c = scale.line(score, gender)
    assert a == pytest.approx(2, rel=0.15) and c == pytest.approx(-1, abs=0.2)


# [20]


def test_masks_of_frequency_bands():
    image = jnp.float32(DRAW.standard_normal((2, 64, 64)))
    edges = (0, 6, 12, 24, 99)
    parts = [frequency_critic.band_pass(image, *band) for band in zip(edges, edges[1:], strict=False)]
    np.testing.assert_allclose(sum(parts), image, atol=1e-5)
    inside = frequency_critic.band_mask(64, 6, 16)
    assert set(np.unique(inside[np.isin(inside, (0, 1))])) == {0, 1} and 0 < inside.mean() < 1
    assert inside[0, 3] == 0 and inside[0, 10] == 1 and inside[0, 20] == 0
    grating = np.sin(2 * np.pi * 3 * np.arange(64) / 64)[None, None].astype(np.float32)
    low, high = frequency_critic.BANDS["age"]
    np.testing.assert_allclose(
        frequency_critic.band_pass(image + 50 * grating, low, high),
        frequency_critic.band_pass(image, low, high),
        atol=1e-3,
    )


def test_sizes_of_the_frequency_critics_nets():
    shapes = shapes_of(models.build("frequency_critic", num_age_classes=12, gender_to_age="none"), 64)["params"]
    sizes_of = {name: sum(leaf.size for leaf in jax.tree.leaves(shapes[name])) for name in shapes}
    assert sizes_of["encoder"] == 690_144 + 524_416 and sizes_of["generator"] == 585_728 + 388_163
    assert sizes_of["age_critic"] == sizes_of["gender_critic"] == 45_425


def test_controls_of_the_frequency_critic():
    own = {"num_age_classes": 12, "gender_to_age": "none"}
    alone = shapes_of(models.build("frequency_critic", critics="none", **own), 64)["params"]
    assert set(alone) == {"classifier", "age_head", "gender_head"}
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    for critics, in_bands in (("frequency", True), ("pixels", False)):
        net = models.build("frequency_critic", critics=critics, **own).bind({})
        for critic in (net.age_critic, net.gender_critic):
            bands = jax.make_jaxpr(lambda x, critic=critic: critic.clone(parent=None).init(jax.random.key(0), x))(
                images
            )
            assert ("fft" in str(bands)) == in_bands


class SmallCritic(frequency_critic.FrequencyCritic):
    """FrequencyCritic without generator, and with one dense unit for its classifier."""

    def setup(self):
        self.classifier = Unit()
        self.age_head, self.gender_head = nn.Dense(self.num_age_classes), nn.Dense(2)

    def _create(self, features):
        pass


class Unit(nn.Module):
    def attend(self, images, *, train):
        return self.unit(images.mean((1, 2))), ()

    def setup(self):
        self.unit = nn.Dense(1)


def test_each_head_changes_on_its_own_steps_only():
    net = SmallCritic(12, critics="none")
    tx = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1))
    key, size = jax.random.key(0), 4
    step = functools.partial(
        training.train_step, model=net, tx=tx, key=key, prepare_images=lambda keys, x: x / jnp.float32(255)
    )
    batch = Batch(
        image=np.uint8(DRAW.integers(0, 256, (4, size, size, 3))),
        age=np.arange(4, dtype=np.int32)[:, None].repeat(2, 1),
        gender=np.arange(4, dtype=np.int32) % 2,
        mask=np.ones(4, np.float32),
    )
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    states = [jax.tree.map(np.array, training.init_state(net, tx, key, size))]
    for _ in range(4):
        states.append(jax.tree.map(np.array, driver.step(states[-1], batch)))

    def changed(name, *states):
        """Return of each parameter and moment of a module whether it differs."""
        leaves = [jax.tree_util.tree_leaves_with_path((state.params, state.opt_state)) for state in states]
        pairs = [(a, b) for (path, a), (_, b) in zip(*leaves, strict=True) if name in jax.tree_util.keystr(path)]
        return [bool((a != b).any()) for a, b in pairs]

    for number, pair in enumerate(itertools.pairwise(states)):
        own, other = ("age_head", "gender_head")[:: 1 - 2 * (number % 2)]
        assert all(changed(own, *pair)) and all(changed("classifier", *pair))
        assert not any(changed(other, *pair))


@pytest.mark.parametrize("alternate", [True, False])
def test_the_classifier_learns_from_the_head_of_the_step(alternate):
    """Also without labels, as where BatchNorm statistics are computed again."""
    net, images = SmallCritic(12, alternate=alternate), jnp.ones((1, 4, 4, 3))
    variables = initializers.init(net, jax.random.key(0), images)
    for step, own in enumerate(("age_logits", "gender_logits")):
        for head in ("age_logits", "gender_logits"):
            gradients = jax.grad(
                lambda v, step=step, head=head: getattr(net.apply(v, images, train=True, step=step), head)[0, 0]
            )
            size = np.abs(gradients(variables)["params"]["classifier"]["unit"]["kernel"]).max()
            assert (size > 0) == (head == own or not alternate)


@pytest.mark.slow
def test_gradients_of_the_frequency_critic_stay_in_their_nets():
    net = models.build("frequency_critic", num_age_classes=12, gender_to_age="none")
    images = jnp.float32(DRAW.standard_normal((4, 64, 64, 3)))
    variables = net.init(jax.random.key(0), images, train=False)
    labels = {"age": jnp.array([0, 1, 2, 3]), "gender": jnp.array([0, 1, 0, 1])}

    @jax.jit
    def sizes_of_gradients(weights, step):
        def loss(params):
            options = {"train": True, "mutable": ["batch_stats"], "step": step}
            outputs = net.apply(variables | {"params": params}, images, **options, **labels)[0]
            return weights[0] * outputs.penalty + weights[1] * (outputs.age_logits.sum() + outputs.gender_logits.sum())

        return jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(variables["params"]))

    def gradients(weights, step):
        gradient_sizes = sizes_of_gradients(jnp.array(weights), step)
        return {name: max(float(size) for size in jax.tree.leaves(gradient_sizes[name])) for name in gradient_sizes}

    for step, (own, other) in enumerate((("age_head", "gender_head"), ("gender_head", "age_head"))):
        penalty = gradients([1.0, 0.0], step)
        assert penalty.pop(other) == 0 and all(size > 0 for size in penalty.values()), penalty
        labels_alone = gradients([0.0, 1.0], step)
        assert labels_alone[own] > 0 and labels_alone["classifier"] > 0
        assert labels_alone[other] == labels_alone["generator"] == labels_alone["age_critic"] == 0


@pytest.mark.parametrize("name", ["deep_attention", *models.systems()])
def test_the_number_of_images_may_be_a_symbol_as_in_an_export(name):
    options = {"support": 4} if name == "region_sift" else {}
    net = models.build(name, num_age_classes=12, gender_to_age="none", **options)
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 32, 32, 3"), jnp.float32)
    outputs = jax.eval_shape(lambda v, x: net.apply(v, x, train=False), shapes_of(net, 32), images)
    assert outputs.age_logits.shape[1] == 12 and str(outputs.gender_logits.shape[0]) == "b"
