"""JAX's own strictness settings, as environment variables, do not change training and prediction."""

import contextlib

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
PROMOTION = "JAX_NUMPY_RANK_PROMOTION=raise JAX_NUMPY_DTYPE_PROMOTION=strict"
X64, CHECKS = "JAX_ENABLE_X64=1", "JAX_ENABLE_X64=1 JAX_ENABLE_CHECKS=1"  # the latter are slow
SWITCHES = {
    PROMOTION: (lambda: jax.numpy_rank_promotion("raise"), lambda: jax.numpy_dtype_promotion("strict")),
    X64: (lambda: jax.enable_x64(True),),
    CHECKS: (lambda: jax.enable_x64(True), lambda: jax.enable_checks(True)),
}
NETS = {"resnet18": OPTIONS, "ran56": {}, "levi_hassner": {}}
CASES = [*((PROMOTION, net) for net in NETS), (X64, "resnet18"), (X64, "ran56"), (CHECKS, "levi_hassner")]


def switched(*switches):
    """Return a context in which all the switches are on."""
    stack = contextlib.ExitStack()
    for switch in switches:
        stack.enter_context(switch())
    return stack


@pytest.mark.parametrize("switches, net", CASES)
def test_the_step_and_predictions_keep_their_types(monkeypatch, switches, net):
    small_nets.patch(monkeypatch, net)
    with switched(*SWITCHES[switches]):
        state, after, probs = small_nets.trace(small_nets.config(net, **NETS[net]))
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
    assert {x.dtype for x in jax.tree.leaves((state.params, probs))} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", losses.AGE_LOSSES)
def test_age_losses_need_no_promotion_and_have_no_nan(kind):
    age, years = np.array([[1, 1], [2, 4]], np.int32), np.array([15, -1], np.int32)
    weights = np.ones(12, np.float32)
    with jax.debug_nans(True), switched(*SWITCHES[PROMOTION]):
        losses.age_loss(np.zeros((2, 12), np.float32), age, 0.1, kind=kind, bucket_weights=weights, years=years)
