import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import losses

LOGITS = jnp.array([[1.0, 2.0, 0.5, -1.0]])
LOG_PROBS = np.asarray(LOGITS - np.log(np.exp(LOGITS).sum()))[0]
RANGES = [(1, 1), (0, 0), (3, 3), (2, 3), (1, 2), (0, 3)]


def loop_loss(kind, first, last, spread=0.5):
    """The table of `losses.age_loss`, bucket by bucket."""
    probs = np.exp(LOG_PROBS.astype(np.float64))
    right = math.log(sum(probs[a] for a in range(first, last + 1)))
    if kind == "ce":
        return -right
    if kind == "mean_variance":
        mean = sum(a * p for a, p in enumerate(probs))
        off = first - mean if mean < first else mean - last if mean > last else 0.0
        return -right + 0.1 * off**2 + 0.05 * sum(p * (a - mean) ** 2 for a, p in enumerate(probs))
    weights, logs = [1.0], [right]
    for a, p in enumerate(probs):
        distance = max(first - a, a - last, 0)
        if distance:
            weights.append(math.exp(-(distance**2) / (2 * spread**2) if kind == "dldl" else -distance / spread))
            logs.append(math.log(p))
    return -sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)


@pytest.mark.parametrize("kind", [kind for kind in losses.AGE_LOSSES if kind != "years"])
def test_age_losses_follow_their_formulas(kind):
    logits, age = jnp.repeat(LOGITS, len(RANGES), 0), jnp.array(RANGES)
    for spread in (0.5, 1.5):
        expected = [loop_loss(kind, first, last, spread) for first, last in RANGES]
        np.testing.assert_allclose(
            losses.age_loss(logits, age, kind=kind, spread=spread), expected, rtol=2e-6, atol=1e-6
        )
    smoothed = 0.9 * np.array(expected) - 0.1 * LOG_PROBS.mean()
    np.testing.assert_allclose(losses.age_loss(logits, age, 0.1, kind=kind, spread=1.5), smoothed, rtol=2e-6)


@pytest.mark.parametrize("kind", ["dldl", "ordinal", "mean_variance"])
def test_a_near_miss_costs_less_than_a_far_one(kind):
    near, far = (jnp.eye(8)[None, i] * 8 for i in (3, 7))
    loss = functools.partial(losses.age_loss, age=jnp.array([[2, 2]]), kind=kind)
    assert loss(near)[0] < loss(far)[0] - 0.1
    np.testing.assert_allclose(losses.age_loss(near, jnp.array([[2, 2]])), losses.age_loss(far, jnp.array([[2, 2]])))


def test_the_loss_of_years_spreads_the_target_over_the_neighbouring_buckets():
    logits, years = jnp.repeat(LOGITS, 5, 0), np.array([0, 19, 25, 39, -1])
    age = jnp.array([[0, 0], [1, 1], [2, 2], [3, 3], [2, 3]])
    for spread in (0.3, 1.0):
        expected = []
        for year, (first, last) in zip(years.tolist(), age.tolist(), strict=True):
            edges = [-math.inf, 10, 20, 30, math.inf]
            cdf = [0.5 * (1 + math.erf((edge - year - 0.5) / (10 * spread * math.sqrt(2)))) for edge in edges]
            shares = [high - low for low, high in zip(cdf, cdf[1:], strict=False)]
            whole = -sum(share * log for share, log in zip(shares, LOG_PROBS, strict=True))
            expected.append(whole if year >= 0 else loop_loss("ce", first, last))
        actual = losses.age_loss(logits, age, kind="years", spread=spread, years=jnp.array(years))
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="needs the ages in years"):
        losses.age_loss(LOGITS, age[:1], kind="years")


def test_an_unknown_age_loss_is_refused():
    with pytest.raises(ValueError, match="mse"):
        losses.age_loss(LOGITS, jnp.array([[1, 1]]), kind="mse")


def test_bucket_weights_favour_rare_buckets_and_average_to_one():
    age = np.array([[0, 0]] * 8 + [[1, 1]] * 2 + [[2, 3]] * 2)  # counts 8, 2, 1, 1, and an empty bucket
    np.testing.assert_array_equal(losses.bucket_weights(age, 5, 0.0), 1.0)
    weights = losses.bucket_weights(age, 5, 0.5)
    raw = np.array([8**-0.5, 2**-0.5, 1, 1, 1])
    np.testing.assert_allclose(weights, raw / ((8 * raw[0] + 2 * raw[1] + 2 * 1) / 12), rtol=1e-6)
    logits = jnp.repeat(jnp.pad(LOGITS, ((0, 0), (0, 1))), 2, 0)
    few = jnp.array([[0, 0], [0, 1]])
    expected = np.array([weights[0], (weights[0] + weights[1]) / 2]) * np.asarray(losses.age_loss(logits, few, 0.1))
    np.testing.assert_allclose(losses.age_loss(logits, few, 0.1, bucket_weights=weights), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", losses.AGE_LOSSES)
def test_an_open_last_group_is_one_bucket(kind):
    """As if the net had one output for it, whose probability is the sum, also in smoothing and weights."""
    years, age = jnp.array([15]), jnp.array([[1, 1]])
    joined = jnp.log(jnp.array([[*np.exp(LOG_PROBS[:2]), np.exp(LOG_PROBS[2:]).sum()]]))
    labels = np.array([[0, 0]] * 8 + [[1, 1]] * 2 + [[2, 3]])
    weights = losses.bucket_weights(labels, 4, 1.0, open_from=2)
    np.testing.assert_array_equal(weights, losses.bucket_weights(np.minimum(labels, 2), 3, 1.0))
    assert weights[2] / weights[0] == pytest.approx(8)
    options = {"smoothing": 0.1, "kind": kind, "spread": 0.7, "bucket_weights": weights}
    one = losses.age_loss(LOGITS, age, years=years, open_from=2, **options)
    np.testing.assert_allclose(one, losses.age_loss(joined, age, years=years, **options), rtol=1e-5)
    whole = losses.age_loss(LOGITS, jnp.array([[2, 3]]), years=jnp.array([-1]), open_from=2, **options)
    last = losses.age_loss(joined, jnp.array([[2, 2]]), years=jnp.array([-1]), **options)
    np.testing.assert_allclose(whole, last, rtol=1e-5)


def test_one_bucket_is_the_cross_entropy():
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[1, 1]])), [-LOG_PROBS[1]], rtol=1e-6)


def test_an_open_group_counts_its_summed_probability():
    expected = -np.log(np.exp(LOG_PROBS[2:]).sum())
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[2, 3]])), [expected], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_mixes_with_the_uniform_distribution(smoothing):
    expected = -(1 - smoothing) * LOG_PROBS[1] - smoothing * LOG_PROBS.mean()
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[1, 1]]), smoothing), [expected], rtol=1e-6)
    np.testing.assert_allclose(losses.gender_loss(LOGITS, jnp.array([1]), smoothing), [expected], rtol=1e-6)


def test_extreme_logits_stay_finite():
    for loss in (losses.age_loss(LOGITS * 1e4, jnp.array([[3, 3]])), losses.gender_loss(LOGITS * 1e4, jnp.array([3]))):
        assert np.isfinite(loss).all()
