"""JAX's own strictness settings, as environment variables, do not change training and prediction."""

import jax
import numpy as np
import pytest
import small_nets

from agegender_jax import losses

OPTIONS = {
    "model": {"dropout": 0.1, "stochastic_depth": 0.1, "age_hidden": 8, "dtype": "bfloat16"},
    "optimizer": {"ema": 0.9, "weight_decay": 0.1},
    "loss": {"label_smoothing": 0.1, "age": "dldl"},
    "augment": {
        **{"crop": 0.3, "expand": 0.1, "aspect": 0.1, "rotation": 10.0},
        **{"grey": 0.1, "erasing": 0.2, "mixup": 0.2},
    },
}
SWITCHES = {
    "JAX_NUMPY_RANK_PROMOTION=raise": lambda: jax.numpy_rank_promotion("raise"),
    "JAX_ENABLE_X64=1": lambda: jax.enable_x64(True),
}


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("net, options", [("resnet18", OPTIONS), ("ran56", {}), ("levi_hassner", {})])
def test_the_step_and_predictions_keep_their_types(monkeypatch, switch, net, options):
    small_nets.patch(monkeypatch, net)
    with SWITCHES[switch]():
        state, after, probs = small_nets.trace(small_nets.config(net, **options))
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
    assert {x.dtype for x in jax.tree.leaves((state.params, probs))} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", losses.AGE_LOSSES)
def test_age_losses_need_no_rank_promotion(kind):
    age, years = np.array([[1, 1], [2, 4]], np.int32), np.array([15, -1], np.int32)
    weights = np.ones(12, np.float32)
    with jax.numpy_rank_promotion("raise"):
        losses.age_loss(np.zeros((2, 12), np.float32), age, 0.1, kind=kind, bucket_weights=weights, years=years)
