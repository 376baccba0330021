"""Programs lowered for a GPU contain plain operations on any machine, and compute the same values as the CPU's.

An exported program for CUDA also runs on CPU where the check of the platform is switched off.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import golden_logits
from test_models import GOLDEN

from agegender_jax import losses, models
from agegender_jax.models import convolution, pooling, resizing
from agegender_jax.models.resnet import ResNet

ANYWHERE = [jax.export.DisabledSafetyCheck.platform()]


def exported(f, platform, *args):
    return jax.export.export(jax.jit(f), platforms=[platform], disabled_checks=ANYWHERE)(*args)


def count(program, *names):
    """Count how often a program runs each operation; layers of one shape call a shared function several times."""
    functions = {}
    for text in re.split(r"\bfunc\.func (?:public |private )?@", program.mlir_module())[1:]:
        name, _, body = text.partition("(")
        functions[name] = body

    def runs(operation, function="main"):
        body = functions[function]
        called = re.findall(r"\bcall @([\w.]+)\(", body)
        return len(re.findall(rf"stablehlo\.{operation}\b", body)) + sum(runs(operation, name) for name in called)

    return tuple(map(runs, names))


def forward(name, **options):
    """Return a net's inference, and the shapes of its variables and of four images of 64 pixels."""
    net = models.build(name, num_age_classes=12, **options)
    images = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)
    return functools.partial(net.apply, train=False), variables, images


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_a_resnet_for_an_accelerator_is_made_of_lax(platform):
    program = exported(*(lambda f, *args: (f, platform, *args))(*forward("resnet18")))
    assert count(program, "convolution", "dot_general", "reduce_window", "concatenate") == (20, 2, 1, 1)


def test_a_ran_for_cuda_is_made_of_lax():
    apply, *args = forward("ran56", width=0.25)
    program = exported(apply, "cuda", *args)
    resizes = 2 * 6  # products along height and width, for each of six
    assert count(program, "convolution", "dot_general", "reduce_window") == (110, 2 + resizes, 7)


def test_the_cpu_gets_its_own_kernels():
    apply, *args = forward("resnet18")
    program = exported(apply, "cpu", *args)
    convolutions, products, windows = count(program, "convolution", "dot_general", "reduce_window")
    assert convolutions < 20 + 3 * 5 and products > 2 and windows == 0


def test_nothing_is_chosen_at_run_time():
    apply, *args = forward("resnet18", width=0.125)
    assert "conditional(" not in jax.jit(apply).lower(*args).compile().as_text()


@pytest.mark.parametrize("size", [4, 9, 16])
def test_both_kinds_of_layers_agree(size):
    """Values and gradients of a convolution, a pooling, whose maxima are unique, and a resize."""

    def f(x, w):
        y = convolution.conv_general(x, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(resizing.resize_align_corners(pooling.caffe_max_pool(y), (size, size))).sum()

    x = jax.random.normal(jax.random.key(0), (4, size, size, 32))
    w = jax.random.normal(jax.random.key(1), (3, 3, 32, 32)) / 17
    both = [exported(jax.value_and_grad(f, (0, 1)), platform, x, w) for platform in ("cuda", "cpu")]
    assert count(both[0], "convolution", "select_and_scatter") == (3, 1)
    parts = {4: 0, 9: 1 + 2 * 2, 16: 4 + 2 * 2}[size]  # of the batch, in the value and both gradients; or products
    assert count(both[1], "convolution", "select_and_scatter") == (parts, 0)
    assert_close(*(program.call(x, w) for program in both))


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.abs(b).max())


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_layers_under_vmap(axes):
    x = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 32))
    w = jax.random.normal(jax.random.key(1), (2, 3, 3, 32, 32)) / 17

    def f(x, w):
        y = convolution.conv_general(x, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(pooling.caffe_max_pool(y)).sum()

    args = [a[0] if axis is None else a for a, axis in zip((x, w), axes, strict=True)]
    actual = jax.jit(jax.vmap(jax.grad(f, (0, 1)), axes))(*args)
    for i in range(2):
        one = [a if axis is None else a[i] for a, axis in zip(args, axes, strict=True)]
        assert_close(jax.tree.map(lambda g, i=i: g[i], actual), jax.jit(jax.grad(f, (0, 1)))(*one))


def test_gradients_of_a_net_for_cuda_are_those_for_cpu():
    """In training mode, a short net that has every kind of layer but a resize."""
    net = models.AgeGenderNet(ResNet(blocks=(1, 1), bottleneck=False, width=0.25), 12)
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    variables = jax.jit(functools.partial(net.init, train=False))(jax.random.key(0), images)
    labels = jnp.stack([jnp.arange(8)] * 2, 1)

    def loss(params):
        outputs, _ = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return losses.age_loss(outputs.age_logits, labels, 0.0).mean()

    programs = [exported(jax.value_and_grad(loss), platform, variables["params"]) for platform in ("cuda", "cpu")]
    (value, gradients), (cpu_value, cpu_gradients) = (program.call(variables["params"]) for program in programs)
    assert float(value) == pytest.approx(float(cpu_value), rel=1e-5)
    assert_close(gradients["backbone"]["layer2_0"], cpu_gradients["backbone"]["layer2_0"])
    assert_close(gradients["gender_head"], cpu_gradients["gender_head"])
    of_stem, cpu_of_stem = (np.ravel(g["backbone"]["conv1"]["kernel"]) for g in (gradients, cpu_gradients))
    assert np.corrcoef(of_stem, cpu_of_stem)[0, 1] > 0.999  # rounding may move activations across ReLU's kink


@pytest.mark.slow  # 10 s to compile; each kind of layer is compared above
def test_golden_attention56_for_cuda():
    """The authors' prototxt as in test_models, by the program that a GPU gets."""
    logits, means, stds = golden_logits("ran56", 64, run=lambda f, *args: exported(f, "cuda", *args).call(*args))
    first, total, most, expected_means, expected_stds = GOLDEN["ran56", 64]
    np.testing.assert_allclose(logits[:5], first, atol=1e-4)
    assert logits.sum() == pytest.approx(total, abs=1e-3) and logits.argmax() == most
    np.testing.assert_allclose(means, expected_means, atol=1e-4)
    np.testing.assert_allclose(stds, expected_stds, atol=1e-4)
