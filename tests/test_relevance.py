"""Epsilon-rule relevance: blocks against the rule in matrix form, whole nets by the conservation of their logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_attributions import BACKBONES, IMAGES, outputs, random_variable, tiny

from agegender_jax import explain
from agegender_jax.explain import lrp
from agegender_jax.models import levi_hassner
from agegender_jax.models.attention import AttentionModule
from agegender_jax.models.preact_unit import PreActUnit
from agegender_jax.models.resnet import Block


def matrix(kernel, shape, stride):
    """A convolution, padded by half its kernel, as a matrix: [h * w * c] -> [h' * w' * o]; and its output's shape."""
    (h, w, c), (size, _, _, o) = shape, kernel.shape
    out = [(n - 1) // stride + 1 for n in (h, w)]
    result = np.zeros((h, w, c, *out, o))
    for i, j in np.ndindex(*out):
        for di, dj in np.ndindex(size, size):
            y, x = i * stride + di - size // 2, j * stride + dj - size // 2
            if 0 <= y < h and 0 <= x < w:
                result[y, x, :, i, j] += kernel[di, dj]
    return result.reshape(h * w * c, -1), (*out, o)


class Layer:
    """z = x W + b with the epsilon rule as published; the shares of the biases are summed in `absorbed`."""

    absorbed = 0.0

    def __init__(self, weights, bias, shape, epsilon):
        self.weights, self.bias, self.shape, self.epsilon = weights, bias, shape, epsilon

    def __call__(self, x):
        self.x = x.ravel()
        self.z = self.x @ self.weights + self.bias
        return self.z.reshape(self.shape)

    def back(self, relevance):
        eps = self.epsilon * np.abs(self.z).mean() * np.where(self.z >= 0, 1, -1)
        z = self.z + eps
        share = np.divide(relevance.ravel(), z, out=np.zeros_like(z), where=z != 0)
        Layer.absorbed += (self.bias * share).sum()
        return np.einsum("i,ij,j->i", self.x, self.weights, share)


class Reference:
    """A unit's variables as layers by name, for one picture."""

    def __init__(self, variables, epsilon):
        self.params, self.stats = variables["params"], variables["batch_stats"]
        self.epsilon, self.used = epsilon, {}

    def __getitem__(self, name):
        return self.used[name]

    def conv(self, name, x, stride=1):
        weights, shape = matrix(np.float64(self.params[name]["kernel"]), x.shape, stride)
        self.used[name] = Layer(weights, np.zeros(weights.shape[1]), shape, self.epsilon)
        return self.used[name](x)

    def norm(self, name, x):
        p, s = (jax.tree.map(np.float64, tree[name]) for tree in (self.params, self.stats))
        scale = p["scale"] / np.sqrt(s["var"] + 1e-5)
        scale, shift = (np.broadcast_to(v, x.shape).ravel() for v in (scale, p["bias"] - s["mean"] * scale))
        self.used[name] = Layer(np.diag(scale), shift, x.shape, self.epsilon)
        return self.used[name](x)


def relu(x):
    return np.maximum(x, 0)


def block(reference, x, weigh):
    """ResNet's basic block with stride 2, forwards, and the relevance out * weigh backwards."""
    y = relu(reference.norm("bn1", reference.conv("conv1", x, 2)))
    y = reference.norm("bn2", reference.conv("conv2", y))
    short = reference.norm("downsample_bn", reference.conv("downsample_conv", x, 2))
    out = relu(short + y)
    r = out * weigh
    main, side = r * y / (short + y), r * short / (short + y)
    for name in ("bn2", "conv2", "bn1", "conv1"):
        main = reference[name].back(main)
    for name in ("downsample_bn", "downsample_conv"):
        side = reference[name].back(side)
    return out, (main + side).reshape(x.shape)


def unit(reference, x, weigh, stride=1, gate=1.0):
    """The pre-activation unit times a constant gate, forwards, and the relevance out * weigh backwards."""
    h = relu(reference.norm("bn1", x))
    y = relu(reference.norm("bn2", reference.conv("conv1", h)))
    y = reference.conv("conv3", relu(reference.norm("bn3", reference.conv("conv2", y, stride))))
    short = reference.conv("proj", h, stride) if "proj" in reference.params else x
    out = gate * (short + y)
    r = out * weigh
    main, side = (r * part / (short + y) for part in (y, short))
    for name in ("conv3", "bn3", "conv2", "bn2", "conv1"):
        main = reference[name].back(main).reshape(-1)
    if "proj" in reference.params:
        return out, reference["bn1"].back(main + reference["proj"].back(side)).reshape(x.shape)
    return out, reference["bn1"].back(main).reshape(x.shape) + side


UNITS = {
    "block": Block(4, bottleneck=False, stride=2),
    "unit": PreActUnit(16),
    "unit/2": PreActUnit(24, stride=2),
    "attention": AttentionModule(16, depth=1, p=0, t=1),
}


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("name", UNITS)
def test_units_against_the_rule_in_matrix_form(name, epsilon):
    module, rng = UNITS[name], np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 6, 16)).astype(np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
    variables = jax.tree_util.tree_map_with_path(random_variable, {k: shapes[k] for k in ("params", "batch_stats")})
    out = jax.jit(lambda: module.apply(variables, x, train=False))()
    out, mask = out if name == "attention" else (out, np.zeros(2))
    weigh = rng.standard_normal(out.shape[1:])

    def score(x):
        out = module.apply(variables, x, train=False)
        return ((out[0] if name == "attention" else out) * weigh).sum((1, 2, 3))

    value, pixels, absorbed, _ = jax.jit(lambda x, epsilon: lrp.propagate(score, x, epsilon))(x, epsilon)
    inner = {key: tree["trunk1"] for key, tree in variables.items()} if name == "attention" else variables
    for b in range(2):
        reference, Layer.absorbed = Reference(inner, epsilon), 0.0
        if name == "block":
            again, expected = block(reference, np.float64(x[b]), weigh)
        else:
            again, expected = unit(reference, np.float64(x[b]), weigh, 2 if name == "unit/2" else 1, 1 + mask[b])
        np.testing.assert_allclose(out[b], again, atol=1e-4)
        np.testing.assert_allclose(pixels[b], expected, atol=2e-4 * np.abs(expected).max())
        np.testing.assert_allclose(absorbed[b], Layer.absorbed, atol=2e-4 * np.abs(expected).sum())
        if epsilon == 0:
            np.testing.assert_allclose(expected.sum() + Layer.absorbed, value[b], rtol=1e-5)


@pytest.mark.parametrize(
    "name,head",
    [*((name, "age") for name in BACKBONES if name != "levi_hassner"), ("resnet", "gender")],
)
def test_nothing_is_lost_without_epsilon(name, head):
    net, variables = tiny(name)
    result = explain.relevance(net, variables, IMAGES, head, [0, 1, 1], epsilon=0.0)
    logits = getattr(outputs(name)[0], f"{head}_logits")[np.arange(3), [0, 1, 1]]
    np.testing.assert_allclose(result.logit, logits, rtol=1e-4)
    scale = np.abs(result.pixels).sum((1, 2)) + np.abs(result.absorbed)
    assert (np.abs(result.error) < 1e-5 * scale).all()
    assert (np.abs(result.absorbed) > 1e-4 * scale).all()  # the biases and shifts of `tiny` are far from 0


@pytest.mark.parametrize("feed,age_hidden", [("probs", 0), ("logits", 8), ("none", 0)])
def test_the_share_of_the_feed(feed, age_hidden):
    net, variables = tiny("resnet", feed, age_hidden)
    result = explain.relevance(net, variables, IMAGES, "age", [0, 1, 1], epsilon=0.0)
    fed = outputs("resnet", feed, age_hidden)[0].gender_logits
    fed = {"probs": jax.nn.softmax(fed), "logits": fed, "none": fed[:, :0]}[feed]
    expected = fed @ variables["params"]["age_head"]["kernel"][-2:][: fed.shape[-1], [0, 1, 1]]
    np.testing.assert_allclose(result.feed, np.diag(expected), rtol=1e-4, atol=1e-6)
    assert (np.abs(result.error) < 1e-4).all()
    assert (explain.relevance(net, variables, IMAGES, "gender").feed == 0).all()


def test_a_larger_epsilon_leaves_less_relevance():
    net, variables = tiny("ran")
    result = [explain.relevance(net, variables, IMAGES, "age", [0, 1, 2], epsilon=e) for e in (1e-4, 1e-2, 1.0)]
    sizes = [np.abs(r.pixels).sum((1, 2)) for r in result]
    assert (sizes[0] > sizes[1]).all() and (sizes[1] > sizes[2]).all()
    np.testing.assert_array_equal(
        explain.attribute("lrp", net, variables, IMAGES, "age", [0, 1, 2]),
        explain.relevance(net, variables, IMAGES, "age", [0, 1, 2]).pixels,
    )
    for r in result:
        np.testing.assert_allclose(r.pixels.sum((1, 2)) + r.absorbed + r.feed + r.error, r.logit, rtol=1e-4)


def test_local_response_normalisation_loses_little_of_small_activations():
    net, variables = tiny("levi_hassner")
    variables = jax.tree.map(jnp.asarray, variables)  # a copy, as the nets of `tiny` are shared
    conv1 = variables["params"]["backbone"]["conv1"]
    conv1["kernel"] = conv1["kernel"] / np.array(levi_hassner.PIXEL_SCALE)[:, None]  # inputs near 1 instead of 58
    result = explain.relevance(net, variables, IMAGES, "age", epsilon=0.0)
    assert (np.abs(result.error) < 0.01 * np.abs(result.logit)).all()


def test_zero_activations_give_no_nan():
    net, variables = tiny("resnet")
    dead = jax.tree.map(jnp.zeros_like, variables)
    for epsilon in (0.0, 0.1):
        assert not np.isnan(explain.relevance(net, dead, IMAGES, "age", epsilon=epsilon).pixels).any()


def test_compiled_once_for_all_targets():
    net, variables = tiny("resnet")
    explain.relevance(net, variables, IMAGES, "age")
    before = lrp._relevance._cache_size()
    for target, epsilon in ((None, 0.1), ([0, 1, 2], 0.01), (np.array([3, 3, 3]), 0.0)):
        explain.relevance(net, variables, IMAGES, "age", target, epsilon=epsilon)
    assert lrp._relevance._cache_size() == before
