"""The bounds hold for labellers of every kind, and are reached where the docstring says."""

import math

import numpy as np
import pytest

from agegender_jax import metrics
from agegender_jax.metrics import label_noise

PICTURES = 20000


def labelled(p: np.ndarray, times: int, rng) -> np.ndarray:
    """Return labels [N, times], each drawn independently from its picture's distribution p [N, K]."""
    return (rng.random((len(p), times, 1)) > p.cumsum(1)[:, None, :-1]).sum(-1)


def pairs_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first and second label of every pair, and its picture."""
    i, j = np.triu_indices(labels.shape[1], 1)
    return labels[:, i].ravel(), labels[:, j].ravel(), np.repeat(np.arange(len(labels)), len(i))


@pytest.mark.parametrize(
    "classes, spread, times", [(2, 0.3, 2), (2, 5.0, 2), (12, 0.05, 2), (12, 0.5, 3), (12, 9.0, 2)]
)
def test_the_best_predictor_lies_between_the_bounds(classes, spread, times):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(classes, spread), PICTURES)
    a, b, picture = pairs_of(labelled(p, times, rng))
    result = label_noise.accuracy_ceiling(a != b, picture, classes)
    low, high = result["ceiling"]
    best = (p.argmax(1) == labelled(p, 1, rng)[:, 0]).mean()
    assert low < best < high and low <= p.max(1).mean() <= high
    assert (result["pictures"], result["pairs"]) == (PICTURES, PICTURES * math.comb(times, 2))


@pytest.mark.parametrize("error", [0.02, 0.1, 0.3])
def test_equal_symmetric_errors_reach_the_upper_bound(error):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, PICTURES)
    a, b = (truth ^ (rng.random(PICTURES) < error) for _ in range(2))
    result = label_noise.accuracy_ceiling(a != b, np.arange(PICTURES), 2)
    assert result["disagreement"] == pytest.approx(2 * error * (1 - error), abs=0.01)
    assert result["ceiling"][1] == pytest.approx(1 - error, abs=0.02)
    assert label_noise.ceiling(2 * error * (1 - error), 2)[1] == pytest.approx(1 - error)


def test_plain_pictures_and_coin_tosses_reach_the_lower_bound():
    rng = np.random.default_rng(2)
    p = np.where(np.arange(PICTURES)[:, None] < PICTURES // 4, [0.5, 0.5], [0.0, 1.0])
    a, b, picture = pairs_of(labelled(p, 2, rng))
    result = label_noise.accuracy_ceiling(a != b, picture, 2)
    assert p.max(1).mean() == 0.875 and result["ceiling"][0] == pytest.approx(0.875, abs=0.01)


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_the_upper_bound_is_cover_and_harts(classes):
    for best_error in np.linspace(0, 1 - 1 / classes, 7):
        disagreement = best_error * (2 - classes / (classes - 1) * best_error)
        assert label_noise.ceiling(disagreement, classes)[1] == pytest.approx(1 - best_error)
    assert label_noise.ceiling(0.0, classes) == (1.0, 1.0)
    assert label_noise.ceiling(1.0, classes) == (0.0, 1 / classes)


def test_the_interval_is_wilsons_over_pictures_not_pairs():
    differ, picture = np.array([1, 1, 0, 0, 0, 0]), np.array([7, 7, 7, 3, 4, 5])
    result = label_noise.accuracy_ceiling(differ, picture, 2)
    shares = np.array([2 / 3, 0, 0, 0])
    assert result["disagreement"] == pytest.approx(1 / 6) and result["ci95"] == metrics.wilson(shares)
    low, high = result["ci95"]
    assert result["ceiling_ci95"] == [label_noise.ceiling(high, 2)[0], label_noise.ceiling(low, 2)[1]]


def test_the_interval_covers():
    """Of 300 small audits nearly all intervals hold the true rate."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        low, high = label_noise.accuracy_ceiling(rng.random(80) < 0.18, np.arange(80), 2)["ci95"]
        covered += low <= 0.18 <= high
    assert covered >= 0.92 * 300


@pytest.mark.parametrize("noise", ["always", "rare"])
def test_the_best_guess_of_years_lies_between_the_bounds(noise):
    rng = np.random.default_rng(4)
    truth = rng.integers(1, 90, PICTURES)

    def label():
        error = np.rint(rng.laplace(0, 4, PICTURES)).astype(int)
        return truth + (error if noise == "always" else np.where(rng.random(PICTURES) < 0.3, 5 * error, 0))

    a, b = label(), label()
    result = label_noise.distance_floor(np.abs(a - b).astype(float), np.arange(PICTURES))
    least, most = result["floor"]
    assert least < np.abs(label() - truth).mean() < most  # the truth is the median of its labels
    assert result["difference"] == pytest.approx(np.abs(label() - label()).mean(), rel=0.05)
    low, high = result["ci95"]
    assert low < result["difference"] < high and result["floor_ci95"] == [low / 2, high]


def test_pairs_without_years_are_left_out():
    result = label_noise.distance_floor(np.array([1.0, np.nan, 3.0]), np.array([0, 1, 0]))
    assert (result["pairs"], result["pictures"], result["floor"]) == (2, 1, [1.0, 2.0])
    assert result["ci95"] is None and result["floor_ci95"] is None


def test_without_pairs_all_values_are_none():
    none = np.zeros(0, int)
    assert set(label_noise.accuracy_ceiling(none, none, 2).values()) == {0, None}
    assert set(label_noise.distance_floor(np.full(2, np.nan), np.arange(2)).values()) == {0, None}
