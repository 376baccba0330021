"""Layers against lax: values and gradients, ties included."""

import functools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from agegender_jax.models import convolution, cpu_convolution, pooling, resizing

NAMES = ("NHWC", "HWIO", "NHWC")
CONVOLUTIONS = (convolution.conv_general, lax.conv_general_dilated)


def operations(lowered):
    """Return the convolutions and products of a lowered program, in order."""
    return re.findall(r"stablehlo\.(convolution|dot_general)", lowered.as_text())


def value_and_grad(f, *args):
    @jax.jit
    def both(*args):
        out, pullback = jax.vjp(f, *args)
        return out, pullback(jax.random.normal(jax.random.key(9), out.shape, out.dtype))

    return both(*args)


@pytest.mark.parametrize("size", [3, 4, 8, 13])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (0, 1)])
def test_max_pool_is_lax_max_pool(size, pad):
    x = jax.random.randint(jax.random.key(size), (2, size, size, 3), 0, 4).astype(jnp.float32)  # full of ties
    ours = value_and_grad(lambda x: pooling.max_pool(x, (pad, pad)), x)
    theirs = value_and_grad(lambda x: nn.max_pool(x, (3, 3), (2, 2), (pad, pad)), x)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1][0], theirs[1][0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("height, width, dtype", [(1, 1, "float32"), (1, 6, "bfloat16"), (7, 4, "bfloat16")])
def test_max_pool_of_small_maps_is_lax_max_pool(height, width, dtype):
    x = jax.random.randint(jax.random.key(0), (2, height, width, 3), 0, 4).astype(dtype)
    ours = value_and_grad(lambda x: pooling.max_pool(x, ((1, 1), (1, 1))), x)
    theirs = value_and_grad(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[0].dtype == ours[1][0].dtype == dtype
    np.testing.assert_allclose(*(np.asarray(g[1][0], np.float32) for g in (ours, theirs)), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_of_special_numbers_is_lax_max_pool_bit_for_bit(dtype):
    rng, pad = np.random.default_rng(0), ((1, 1), (0, 1))
    x = rng.choice([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan], (4, 9, 12, 3), p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.05])
    x, whole = jnp.asarray(x, dtype), rng.integers(1, 4, (4, 5, 6, 3))  # whose sums are exact in any order

    @functools.partial(jax.jit, static_argnums=0)
    def both(pool):
        out, pullback = jax.vjp(pool, x)
        return out, *pullback(jnp.asarray(whole, dtype))

    ours = both(lambda x: pooling.max_pool(x, pad))
    theirs = both(lambda x: nn.max_pool(x, (3, 3), (2, 2), pad))
    assert np.isnan(ours[0]).any()
    for a, b in zip(ours, theirs, strict=True):
        bits = f"uint{8 * a.dtype.itemsize}"
        np.testing.assert_array_equal(np.asarray(a).view(bits), np.asarray(b).view(bits))


def test_max_pool_in_forward_mode():
    x, t = jax.random.normal(jax.random.key(0), (2, 2, 9, 8, 3))
    ours = jax.jvp(lambda x: pooling.max_pool(x, ((1, 1), (0, 1))), (x,), (t,))
    theirs = jax.jvp(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (0, 1))), (x,), (t,))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("seed", range(2))
def test_max_pool_with_nan_is_lax_max_pool(seed):
    x = jax.random.randint(jax.random.key(seed), (1, 9, 9, 2), 0, 4).astype(jnp.float32)  # ties too
    x = jnp.where(jax.random.bernoulli(jax.random.key(seed + 9), 0.04, x.shape), jnp.nan, x)
    assert jnp.isnan(x).any()
    ours = value_and_grad(lambda x: pooling.max_pool(x, ((0, 0),) * 2), x)
    theirs = value_and_grad(lambda x: nn.max_pool(x, (3,) * 2, (2,) * 2), x)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1][0], theirs[1][0], rtol=1e-6, atol=1e-6)


# Caffe: out = ceil((n - 3) / 2) + 1
@pytest.mark.parametrize(
    "size,out", [(3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (13, 6), (14, 7), (25, 12), (50, 25), (1, 1), (2, 1)]
)
def test_caffe_pool_sizes(size, out):
    x = jnp.arange(size * size, dtype=jnp.float32).reshape(1, size, size, 1)
    pooled = pooling.caffe_max_pool(x)
    assert pooled.shape == (1, out, out, 1)
    assert pooled[0, 0, 0, 0] == x[0, min(2, size - 1), min(2, size - 1), 0]  # windows start at 0


@pytest.mark.parametrize(
    "height,width,kernel,stride",
    [(2, 2, 3, 1), (4, 4, 3, 2), (1, 1, 3, 1), (1, 1, 1, 1), (3, 3, 3, 1), (2, 5, 3, 1), (5, 3, 3, 2), (9, 7, 1, 2)],
)
def test_small_convolutions_are_lax_convolutions(height, width, kernel, stride):
    keys = jax.random.split(jax.random.key(0))
    x, w = jax.random.normal(keys[0], (2, height, width, 8)), jax.random.normal(keys[1], (kernel, kernel, 8, 16))
    ours, theirs = (
        value_and_grad(lambda x, w, f=f: convolve_with(f, x, w, stride), x, w)
        for f in (convolution.conv_general, lax.conv_general_dilated)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


KINDS = {  # of convolutions on CPU: height, width, channels, kernel, stride, features
    "small": (3, 4, 8, 3, 1, 16),
    "one pixel": (1, 1, 32, 3, 1, 16),
    "1x1": (9, 7, 16, 1, 2, 32),
    "parts": (16, 17, 8, 3, 1, 16),
    "stem in parts": (16, 17, 3, 7, 2, 16),
    "odd width": (7, 9, 32, 3, 1, 40),
    "strided": (9, 7, 80, 3, 2, 40),
    "stem by pairs": (16, 18, 3, 7, 2, 40),
    "wide stem": (16, 17, 3, 7, 2, 64),
}


def convolve_with(convolve, x, w, stride):
    pad = (w.shape[0] // 2,) * 2
    return convolve(x, w, (stride, stride), (pad, pad), dimension_numbers=NAMES)


@functools.partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(convolve, stride, x, w, cotangent):
    out, pullback = jax.vjp(lambda x, w: convolve_with(convolve, x, w, stride), x, w)
    return out, *pullback(cotangent)


def draw_arrays(kind):
    """Return x, w, a gradient of the output, and the stride."""
    height, width, channels, kernel, stride, features = KINDS[kind]
    rng, out = np.random.default_rng(0), (-(-height // stride), -(-width // stride))
    shapes = (4, height, width, channels), (kernel, kernel, channels, features), (4, *out, features)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes], stride


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_are_as_exact_as_by_lax(kind, dtype):
    arrays, stride = draw_arrays(kind)
    arrays = [jnp.asarray(a, dtype) for a in arrays]
    with jax.enable_x64(True):
        exact = value_and_gradients(lax.conv_general_dilated, stride, *(np.asarray(a, np.float64) for a in arrays))
    ours, theirs = (
        value_and_gradients(f, stride, *arrays) for f in (convolution.conv_general, lax.conv_general_dilated)
    )
    for a, b, c in zip(ours, theirs, map(np.asarray, exact), strict=True):
        assert a.dtype == b.dtype == dtype and c.dtype == np.float64
        ours_off, theirs_off, size = (np.square(d).mean() ** 0.5 for d in (np.float64(a) - c, np.float64(b) - c, c))
        assert ours_off <= 1.25 * theirs_off + 1e-6 * size


def test_exactness_at_xlas_default_optimisation_level():
    """The other tests compile without optimisation."""
    some = "float32 and (special or exact and not (stem or pixel or 1x1))"
    command = (sys.executable, "-m", "pytest", "--noconftest", "-o", "addopts=", "-p", "no:cacheprovider")
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run((*command, __file__, "-k", some), env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_inf_are_never_hidden(kind, value):
    arrays, stride = draw_arrays(kind)
    for i, array in enumerate(arrays):
        batch_or_row = 0 if i == 1 else 1
        for index in {(batch_or_row, 0, 0, 1), (batch_or_row, array.shape[1] // 2, array.shape[2] // 2, 1)}:
            bad, marked = array.copy(), np.zeros_like(array)
            bad[index], marked[index] = value, 1
            args = [bad if i == j else a for j, a in enumerate(arrays)]
            ones = [marked if i == j else np.ones_like(a) for j, a in enumerate(arrays)]
            actual = value_and_gradients(convolution.conv_general, stride, *args)
            counts = value_and_gradients(lax.conv_general_dilated, stride, *ones)
            used = (0, 1), (1, 2), (0, 2)  # by the value, by the gradients of x and w
            for a, count, inputs in zip(actual, counts, used, strict=True):
                assert (~np.isfinite(a))[np.asarray(count) > 0.5].all() if i in inputs else np.isfinite(a).all()


@pytest.mark.parametrize(
    "height,width,kernel,stride,channels", [(7, 9, 3, 1, 32), (9, 6, 3, 2, 32), (8, 8, 5, 1, 32), (20, 17, 7, 2, 3)]
)
def test_derivatives_of_convolutions_are_those_of_lax_convolutions(height, width, kernel, stride, channels):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (4, height, width, channels))
    w = jax.random.normal(keys[1], (kernel, kernel, channels, 40))
    dx, dw = jax.random.normal(keys[2], x.shape), jax.random.normal(keys[3], w.shape)
    options = {"padding": ((1, kernel // 2), (kernel // 2, 0)), "dimension_numbers": NAMES}
    nan = x.at[0, 2, 3, 2].set(jnp.nan)

    def results(convolve):
        def f(x, w):
            return convolve(x, w, (stride, stride), **options)

        parts = value_and_grad(lambda x: f(x, w), x), value_and_grad(lambda w: f(x, w), w)
        with_nan = f(nan, w), value_and_grad(lambda x: f(x, w), nan)  # it reaches the windows over it and no others
        return f(x, w), value_and_grad(f, x, w), parts, jax.jvp(f, (x, w), (dx, dw)), with_nan

    ours, theirs = (jax.jit(results, static_argnums=0)(f) for f in (convolution.conv_general, lax.conv_general_dilated))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, theirs)
    assert jnp.isnan(ours[-1][0]).any() and jnp.isfinite(ours[0]).all()


@pytest.mark.parametrize("kind", ["parts", "odd width", "strided", "stem by pairs", "wide stem"])
def test_gradients_have_the_order_of_dimensions_that_is_fast(kind):
    """XLA computes any other order in a branch of a conditional with plain loops, many times as slowly."""
    (x, w, cotangent), stride = draw_arrays(kind)
    compiled = value_and_gradients.lower(convolution.conv_general, stride, x, w, cotangent).compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=(\w+->\w+)", compiled)
    assert len(orders) >= 3 and set(orders) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("size,kernel,stride,channels", [(16, 3, 1, 64), (33, 7, 2, 3), (17, 3, 2, 64)])
def test_convolutions_in_parts_are_lax_convolutions(size, kernel, stride, channels):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (8, size, size, channels))
    w = jax.random.normal(keys[1], (kernel, kernel, channels, 8))
    ours, theirs = (
        functools.partial(convolve_with, f, stride=stride) for f in (convolution.conv_general, lax.conv_general_dilated)
    )
    assert jax.jit(ours).lower(x, w).as_text().count("stablehlo.convolution") == cpu_convolution.PARTS
    pairs = value_and_grad(ours, x, w), value_and_grad(theirs, x, w)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), *pairs)


@pytest.mark.parametrize("kernel", [(7, 7), (8, 8)])
@pytest.mark.parametrize("pad", [(3, 3), (2, 3), (0, 0), (0, 5)])
def test_stems_by_pairs_of_pixels_are_lax_convolutions(kernel, pad):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 9, 12, 3)), rng.normal(size=(*kernel, 3, 8))
    x, w = x.astype(np.float32), w.astype(np.float32)
    options = {"window_strides": (2, 2), "padding": ((3, 2), pad), "dimension_numbers": NAMES}
    ours, theirs = (jax.jit(functools.partial(f, **options)) for f in CONVOLUTIONS)
    assert "x6xf32>" in ours.lower(x, w).as_text()
    np.testing.assert_allclose(ours(x, w), theirs(x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"feature_group_count": 4},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1)},
        {"padding": "SAME"},
        {"dimension_numbers": ("NHWC", "HWOI", "NHWC")},
        {"dimension_numbers": ("NWHC", "HWIO", "NHWC")},
        {"precision": "highest"},
        {"preferred_element_type": jnp.float64},
    ],
    ids=str,
)
def test_other_options_of_a_convolution_are_those_of_lax(options):
    x = jax.random.normal(jax.random.key(0), (4, 4, 3, 8))
    w = jax.random.normal(jax.random.key(1), (3, 3, 2 if "feature_group_count" in options else 8, 8))
    options = {"padding": ((1, 1), (0, 1)), "dimension_numbers": NAMES} | options
    with jax.enable_x64("preferred_element_type" in options):
        ours, theirs = (jax.jit(functools.partial(f, window_strides=(1, 1), **options)) for f in CONVOLUTIONS)
        assert operations(ours.lower(x, w)) == operations(theirs.lower(x, w)) == ["convolution"]
        np.testing.assert_array_equal(ours(x, w), theirs(x, w))


def test_a_convolution_with_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="stride"):
        convolution.conv_general(jnp.ones((1, 4, 4, 8)), jnp.ones((1, 1, 8, 8)), (1, 1), ((0, 0), (0, 0)), stride=2)


def test_grouped_and_one_dimensional_flax_convolutions():
    for shape, kernel, groups in (((2, 4, 4, 8), (3, 3), 4), ((2, 9, 8), (3,), 1)):
        ours, theirs = (
            nn.Conv(8, kernel, padding=1, feature_group_count=groups, conv_general_dilated=f) for f in CONVOLUTIONS
        )
        x = jax.random.normal(jax.random.key(0), shape)
        variables = theirs.init(jax.random.key(1), x)
        np.testing.assert_array_equal(ours.apply(variables, x), theirs.apply(variables, x))


def test_a_wide_stem_is_not_split_without_a_gradient():
    x, w = jax.ShapeDtypeStruct((8, 32, 32, 3), np.float32), jax.ShapeDtypeStruct((7, 7, 3, 32), np.float32)
    window = ((2, 2), ((3, 3), (3, 3)))
    names = {"dimension_numbers": NAMES}
    lowered = jax.jit(lambda x, w: convolution.conv_general(x, w, *window, **names)).lower(x, w)
    assert lowered.as_text().count("stablehlo.convolution") == 1


def test_resize_keeps_both_ends_of_a_ramp():
    ramp = jnp.linspace(0.0, 1.0, 4)[None, :, None, None] * jnp.ones((1, 4, 4, 2))
    out = resizing.resize_align_corners(ramp, (7, 7))
    np.testing.assert_allclose(out[0, :, 3, 0], np.linspace(0, 1, 7), atol=1e-6)


@pytest.mark.parametrize("size, out", [(6, 12), (6, 13), (12, 25), (3, 7), (2, 5), (7, 14)])
def test_resize_is_linear_interpolation(size, out):
    x = np.random.default_rng(0).standard_normal((1, size, size, 1)).astype(np.float32)
    positions = np.linspace(0, size - 1, out)
    rows = np.stack([np.interp(positions, np.arange(size), column) for column in x[0, :, :, 0].T], 1)
    expected = np.stack([np.interp(positions, np.arange(size), row) for row in rows])
    np.testing.assert_allclose(resizing.resize_align_corners(x, (out, out))[0, :, :, 0], expected, atol=1e-5)


def test_resize_of_the_same_size_and_of_one_pixel():
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 2))
    np.testing.assert_array_equal(resizing.resize_align_corners(x, (5, 5)), x)
    np.testing.assert_allclose(
        resizing.resize_align_corners(x[:, :1, :1], (3, 4)), jnp.broadcast_to(x[:, :1, :1], (1, 3, 4, 2))
    )


@pytest.mark.parametrize("shape, out", [((3, 5), (7, 9)), ((2, 4), (4, 4)), ((1, 1), (3, 2)), ((7, 2), (3, 5))])
def test_resize_in_bfloat16_rounds_once(shape, out):
    def weights(size, out):
        return np.stack([np.interp(np.linspace(0, size - 1, out), range(size), one) for one in np.eye(size)], 1)

    def resize(x):
        return resizing.resize_align_corners(x, out)

    x, cotangent = (jax.random.normal(jax.random.key(0), (2, *s, 16), jnp.bfloat16) for s in (shape, out))
    value, pullback = jax.vjp(resize, x)
    matrices = [weights(*sizes) for sizes in zip(shape, out, strict=True)]
    for actual, array, equation in (
        (value, x, "yh,xw,bhwc->byxc"),
        (*pullback(cotangent), cotangent, "yh,xw,byxc->bhwc"),
    ):
        exact = np.einsum(equation, *matrices, np.asarray(array, np.float64))
        half_ulp = 2.0 ** (np.frexp(exact)[1] - 9)  # 8 digits
        assert actual.dtype == jnp.bfloat16
        assert (np.abs(np.asarray(actual, np.float64) - exact) <= half_ulp + 1e-6).all()
