"""Heads solved by least squares, after Duan et al. 2018, and the factors from scores to probabilities."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.linalg

from agegender_jax import models
from agegender_jax.checkpoint import tree
from agegender_jax.checkpoint.variable_shapes import variable_shapes
from agegender_jax.config import default
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.training import solve_head
from agegender_jax.solve import elm, scores_to_logits
from agegender_jax.structs import Batch

DRAW = np.random.default_rng(0)


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


def test_each_head_has_its_own_number_of_units(monkeypatch):
    """As many as have the lowest loss on held-out examples when they are solved alone."""
    monkeypatch.setattr(elm, "LOG2_C", (-4, 2))
    draw = np.random.default_rng(1)
    hidden = draw.standard_normal((60, 24))
    gender = (hidden[:, 0] + 0.3 * draw.standard_normal(60) > 0).astype(int)
    age = (hidden[:, 1:24].sum(1) > 0).astype(int)
    right = elm.one_hot(np.stack([age, age], 1), gender, 2)
    sums, val = sums_of(hidden[:40], 2 * right[:40] - 1), (hidden[40:], right[40:])
    beta, report = elm.select(sums, *val, (4, 24))
    assert (report["units_gender"], report["units_age"]) == (4, 24)
    assert (beta[4:, :2] == 0).all() and (beta[4:, 2:] != 0).all()
    for head, columns in (("gender", slice(0, 2)), ("age", slice(2, None))):
        alone = {n: elm.select(sums_of(hidden[:40, :n], 2 * right[:40] - 1), val[0][:, :n], val[1]) for n in (4, 24)}
        count = min(alone, key=lambda n: alone[n][1][f"val_loss_{head}"])
        assert count == report[f"units_{head}"]
        np.testing.assert_allclose(beta[:count, columns], alone[count][0][:, columns], rtol=1e-9)
    assert elm.unit_counts(1000) == (250, 500, 1000) and elm.unit_counts(20) == (20,)


class Colours(nn.Module):
    """A backbone without parameters: the mean colour."""

    def attend(self, images, *, train):
        return images.mean((1, 2)), ()


class OneBatch:
    """A dataset with one batch for each of train and val, and none for test."""

    def __init__(self, seeds):
        self.split = {name: self._batch(np.random.default_rng(seed)) for name, seed in seeds.items()}

    def eval_batches(self, split, *args):
        yield self.split[split]

    @staticmethod
    def _batch(draw):
        gender, age = draw.integers(0, 2, 16), draw.integers(0, 12, (16, 1))
        image = np.uint8(draw.integers(0, 128, (16, 4, 4, 3)) + 100 * gender[:, None, None, None])
        return Batch(image, age.repeat(2, 1), gender, np.ones(16, np.float32))


def test_the_solution_depends_on_train_and_its_constants_on_val(monkeypatch):
    """The same seed gives the same bits; other images and labels of val change factors, not what is solved."""
    monkeypatch.setattr(elm, "LOG2_C", (0,))
    config = default()
    config.model.update(head="elm", elm_hidden=6)

    def solved(seed=0, **seeds):
        config.seed = seed
        dataset = OneBatch({"train": 1, "val": 2} | seeds)
        return solve_head._solve(config, Colours(), {}, dataset, Progress(silent=True))

    params, (_, beta, _), report = solved()
    again = solved()
    jax.tree.map(np.testing.assert_array_equal, (params, report), (again[0], again[2]))
    _, (_, other, _), changed = solved(val=3)
    assert changed["factor_age"] != report["factor_age"]
    np.testing.assert_allclose(other, beta, rtol=1e-5)
    assert np.abs(solved(train=3)[1][1] - beta).max() > 0.01
    assert (solved(seed=1)[0]["random"]["kernel"] != params["random"]["kernel"]).all()


@pytest.mark.parametrize("head", ["elm", "ridge"])
@pytest.mark.parametrize("name", {of: name for name, (of, _) in reversed(models.BACKBONES.items())}.values())
def test_a_solved_head_fits_every_backbone(name, head):
    """Some have branches that only training uses, and that one of the two heads leaves out."""
    config = default()
    config.model.update(name=name, head=head, width=0.125, gender_to_age="none")
    config.data.image_size = 64
    shapes = variable_shapes(config.to_dict())
    trained = variable_shapes(config.to_dict() | {"model": {**config.model, "head": "softmax"}})
    made = {group: {"backbone": of["backbone"]} for group, of in trained.items() if "backbone" in of}
    heads = {part: of for part, of in shapes["params"].items() if part in ("random", "output", *solve_head.HEADS)}
    made["params"] |= heads
    made = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), made)
    solved = solve_head._of_net(config, made)
    tree.check_match(solved, shapes, name)
    for leaf, value in tree.named_leaves(solved).items():
        assert (value == (0 if leaf.startswith("params/auxiliary") else 1)).all()


def test_one_feature():
    mean, deviation = elm.standardisation([np.arange(5.0)[:, None]])
    kernel, bias = elm.random_layer(0, 3, mean, deviation, 2.0)
    assert kernel.shape == (1, 3) and np.isfinite(kernel).all() and np.isfinite(bias).all()


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
    assert scores_to_logits.factor(logits / 5, np.eye(3)[labels])[0] == pytest.approx(5, rel=0.1)
    assert scores_to_logits.cross_entropy(np.zeros((2, 4)), np.ones((2, 4))) == pytest.approx(0)
    score = DRAW.standard_normal(4000)
    gender = (DRAW.uniform(size=4000) < 1 / (1 + np.exp(-(2 * score - 1)))).astype(int)
    a, c = scores_to_logits.line(score, gender)
    assert a == pytest.approx(2, rel=0.15) and c == pytest.approx(-1, abs=0.2)


def test_factors_of_a_few_separable_examples_are_moderate():
    """Without regularisation they grow without a limit, and every prediction is certain."""
    score, gender = np.array([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5]), np.array([0, 0, 0, 1, 1, 1])
    a, c = scores_to_logits.line(score, gender)
    assert 0.5 < a < 3 and abs(c) < 1e-3
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    a, loss = scores_to_logits.factor(logits, logits)
    assert 1 < a < 5 and loss == pytest.approx(np.log(1 + 2 * np.exp(-a)))


@pytest.mark.parametrize("gender", [np.zeros(6, int), np.ones(6, int), np.zeros(0, int)])
def test_examples_of_one_gender_say_nothing_about_the_threshold(gender):
    """The threshold stays that of the support vector machine."""
    assert scores_to_logits.line(DRAW.standard_normal(len(gender)), gender) == (1, 0)
