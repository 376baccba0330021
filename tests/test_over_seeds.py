"""Intervals over seeds and images: against a loop that draws one by one, and against worlds with a known answer."""

import numpy as np
import pytest

from agegender_jax import metrics


def bootstrap_by_loop(values, resamples=4000):
    """Return the interval of the crossed bootstrap, drawn one by one."""
    rng, (seeds, images) = np.random.default_rng(1), values.shape
    means = []
    for _ in range(resamples):
        rows, columns = rng.integers(0, seeds, seeds), rng.integers(0, images, images)
        means.append(values[rows][:, columns].mean())
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize("seeds, images", [(1, 80), (2, 50), (4, 200)])
def test_the_interval_is_that_of_a_loop(seeds, images):
    rng = np.random.default_rng(seeds)
    values = rng.integers(-2, 3, (1, images)) + rng.integers(-1, 2, (seeds, images)) + np.arange(seeds)[:, None]
    low, high = bootstrap_by_loop(values)
    np.testing.assert_allclose(metrics.crossed_bootstrap(values), [low, high], atol=0.06 * (high - low))


def worlds(count, seeds, images, of_seed, of_image):
    """Differences of 0/1 outcomes [S, N] with a known mean; both effects are standard deviations of thresholds."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        effect = of_seed * rng.standard_normal((seeds, 1)) + of_image * rng.standard_normal((1, images))
        noise = rng.standard_normal((seeds, images))
        yield ((effect + noise > 0.8).astype(int) - (effect + noise < -0.8)).astype(int)  # symmetric: mean 0


def covered(*world):
    result = [metrics.crossed_bootstrap(values) for values in worlds(100, *world)]
    return np.mean([low <= 0 <= high for low, high in result])


@pytest.mark.parametrize(
    "world, least, most",
    [
        ((1, 200, 0.0, 1.0), 0.91, 0.985),  # one seed, images alone
        ((3, 200, 0.03, 1.0), 0.93, 1.0),  # what trainings look like: the images differ most
        ((8, 100, 0.3, 0.5), 0.87, 0.99),  # seeds differ most, and there are enough
        ((3, 200, 1.0, 0.5), 0.6, 0.85),  # seeds differ most, and three cannot say by how much
    ],
)
def test_coverage(world, least, most):
    assert least <= covered(*world) <= most


def test_intervals_from_resampling_only_images_are_too_narrow():
    """Six seeds as one long row, as if every image of every seed were a new one."""
    result = [metrics.crossed_bootstrap(values.reshape(1, -1)) for values in worlds(100, 6, 100, 0.3, 0.5)]
    assert np.mean([low <= 0 <= high for low, high in result]) < 0.7


def test_compare_returns_the_difference_per_seed():
    a, b = np.array([[1, 1, 0, 1], [1, 0, 0, 1]]), np.array([[1, 0, 0, 0], [0, 1, 0, 1]])
    result = metrics.compare(a, b)
    assert result["difference"] == 0.25 and result["by_seed"] == [0.5, 0.0] and result["range"] == [0.0, 0.5]
    assert result["ci95"][0] <= 0.25 <= result["ci95"][1]
    assert metrics.compare(a, a) == {"difference": 0.0, "ci95": [0, 0], "by_seed": [0, 0], "range": [0, 0]}
    assert metrics.compare(a[:, :0], b[:, :0])["difference"] is None
