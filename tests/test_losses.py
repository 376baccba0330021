import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import losses

LOGITS = jnp.array([[1.0, 2.0, 0.5, -1.0]])
LOG_PROBS = np.asarray(LOGITS - np.log(np.exp(LOGITS).sum()))[0]


def test_one_bucket_is_the_cross_entropy():
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[1, 1]])), [-LOG_PROBS[1]], rtol=1e-6)


def test_an_open_group_counts_its_summed_probability():
    want = -np.log(np.exp(LOG_PROBS[2:]).sum())
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[2, 3]])), [want], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_mixes_with_the_uniform_distribution(smoothing):
    want = -(1 - smoothing) * LOG_PROBS[1] - smoothing * LOG_PROBS.mean()
    np.testing.assert_allclose(losses.age_loss(LOGITS, jnp.array([[1, 1]]), smoothing), [want], rtol=1e-6)
    np.testing.assert_allclose(losses.gender_loss(LOGITS, jnp.array([1]), smoothing), [want], rtol=1e-6)


def test_extreme_logits_stay_finite():
    for loss in (losses.age_loss(LOGITS * 1e4, jnp.array([[3, 3]])), losses.gender_loss(LOGITS * 1e4, jnp.array([3]))):
        assert np.isfinite(loss).all()
