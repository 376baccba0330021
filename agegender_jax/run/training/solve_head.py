"""ELM and ridge heads solved on the features of a trained net, which can also be trained through the head.

With `elm.rounds` R, the head is solved R + 1 times. Before each new solution, the backbone is trained for one epoch by
SGD on the squared error of the outputs of the last, constant head. The solution with the lowest loss on val is kept.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import data, models, optim
from agegender_jax.checkpoint import initial_weights, tree
from agegender_jax.checkpoint.variable_shapes import variable_shapes
from agegender_jax.data.augment import augment
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir
from agegender_jax.solve import elm
from agegender_jax.structs import Batch

MOMENTUM, CLIP = 0.9, 1.0
HEADS = {"gender_head": slice(0, 2), "age_head": slice(2, None)}  # columns of the outputs


def solve(config: ConfigDict, folder: Workdir, dataset: Dataset, progress: Progress) -> tuple[dict, dict]:
    """Return the variables of a net with an ELM or ridge head on the backbone of `init_from`, and the report."""
    net, own = _load(config, folder, progress)
    step, constant, best = _stepper(config, net.backbone), None, None
    losses: list[float] = []
    for number in range(config.elm.rounds + 1):
        if number:
            own = _train(config, step, own, constant, number, dataset, progress)
        params, constant, report = _solve(config, net.backbone, own, dataset, progress)
        losses.append(report["val_loss_gender"] + report["val_loss_age"])
        if config.elm.rounds:
            progress.note(f"solution {number + 1} of {config.elm.rounds + 1}: loss {losses[-1]:.3f} on val")
        if losses[-1] == min(losses):
            best = own, params, report | ({"round": number} if config.elm.rounds else {})
    assert best
    own, params, report = best
    variables = {name: {"backbone": part} for name, part in own.items()}
    variables["params"] |= params
    return _of_net(config, variables), report | ({"val_losses": losses} if config.elm.rounds else {})


def _of_net(config: ConfigDict, variables: dict) -> dict:
    """Return the variables that the config's net has: branches that only training uses are left out, or 0."""
    template = variable_shapes(config_lib.to_dict(config))
    unused = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in tree.named_leaves(template).items()
        if name.startswith("params/auxiliary")
    }
    return tree.from_dict(unused | tree.named_leaves(variables), template)


def batches(config: ConfigDict, dataset: Dataset, progress: Progress, split: str) -> Iterator[Batch]:
    """Yield the batches of a split; raise Stopped after a signal."""
    size = min(64, config.eval.batch_size)
    for batch in dataset.eval_batches(split, config.data.image_size, size, progress.prepare):
        check_stop(progress)
        yield batch


def check_stop(progress: Progress) -> None:
    """Raise Stopped after a signal."""
    if progress.stop is not None:
        progress.stop.check("solving")


def _load(config: ConfigDict, folder: Workdir, progress: Progress) -> tuple[Any, dict]:
    """Return the net with softmax heads, and the variables of its backbone from `init_from`."""
    net = models.from_config(dict(config.model) | {"head": "softmax"})
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)
    shapes = {"params": {"backbone": shapes["params"]["backbone"]}, "batch_stats": shapes.get("batch_stats", {})}
    leaves = initial_weights.load(config.init_from, shapes, progress.note)
    variables = tree.from_dict({name: leaves[name] for name in tree.named_leaves(shapes)}, shapes)
    leaks.inherit(folder, [config.init_from])
    return net, {name: part["backbone"] for name, part in variables.items() if part}


def _solve(config: ConfigDict, backbone: nn.Module, own: dict, dataset: Dataset, progress: Progress):
    """Return the heads' parameters, (random layer or None, kernel, bias) of the outputs in {-1, 1}, and the report."""
    features = functools.partial(_features, backbone, own)
    read = functools.partial(batches, config, dataset, progress)
    mean, deviation = elm.standardisation(
        np.asarray(features(batch.image))[np.asarray(batch.mask) > 0] for batch in read("train")
    )
    random: Any = None
    if config.model.head == "elm":
        random = elm.random_layer(config.seed, config.model.elm_hidden, mean, deviation, config.elm.scale)
        hidden = functools.partial(_random_units, *random)
    else:
        hidden = functools.partial(_standardised, mean, deviation)
    sums = elm.Sums()
    for rows, right in elm.hidden_batches(lambda x: hidden(features(x)), read("train"), NUM_AGE_BUCKETS):
        sums.add(rows, 2 * right - 1)
    rest = elm.hidden_batches(lambda x: hidden(features(x)), read("val"), NUM_AGE_BUCKETS)
    val, right = (np.concatenate(parts) for parts in zip(*rest, strict=True))
    check_stop(progress)
    units = elm.unit_counts(config.model.elm_hidden) if random is not None else ()
    beta, report = elm.select(sums, val, right, units)
    factors = np.concatenate([np.full(2, report["factor_gender"]), np.full(NUM_AGE_BUCKETS, report["factor_age"])])
    if random is not None:
        arrays = {"kernel": random[0], "bias": random[1]}
        params = {"random": arrays, "output": {"kernel": np.float32(beta)}}
        return params, (random, np.float32(beta / factors), np.zeros(1, np.float32)), report
    kernel = beta[:-1] / deviation[:, None]
    bias = beta[-1] - mean @ kernel
    params = {
        name: {"kernel": np.float32(kernel[:, columns]), "bias": np.float32(bias[columns])}
        for name, columns in HEADS.items()
    }
    return params, (None, np.float32(kernel / factors), np.float32(bias / factors)), report


def _train(config: ConfigDict, step, own: dict, constant, number: int, dataset: Dataset, progress: Progress) -> dict:
    """Return the backbone's variables after epoch `number`, counted from 1; BatchNorm statistics are unchanged."""
    steps = len(dataset.indices("train")) // config.batch_size
    end = number * steps
    opt_state = _optimizer(config).init(own["params"])
    for index, batch in enumerate(dataset.train_batches(config, end - steps, end), end - steps):
        check_stop(progress)
        targets = 2 * elm.one_hot(batch.age, batch.gender, NUM_AGE_BUCKETS) - 1
        own, opt_state = step(own, opt_state, constant, np.int32(index), batch.image, np.float32(targets))
    return own


def _optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Return SGD with momentum; gradients are clipped because solved weights can be large."""
    return optax.chain(optim.clip_by_global_norm(CLIP), optax.sgd(config.elm.joint_lr, MOMENTUM))


def _stepper(config: ConfigDict, backbone: nn.Module) -> Callable:
    """Return a step of SGD on the mean squared error of the constant head's outputs: (variables, opt_state)."""
    tx = _optimizer(config)

    @jax.jit
    def step(own, opt_state, constant, index, images, targets):
        key = jax.random.fold_in(jax.random.key(config.seed), index)
        images = data.normalize_float(augment(jax.random.split(key, len(images)), images, config.augment))

        def loss(params):
            features = backbone.apply(own | {"params": params}, images, train=False, method="attend")[0]
            random, kernel, bias = constant
            hidden = features if random is None else _random_units(*random, features)
            outputs = jnp.dot(hidden, kernel, precision="highest") + bias[None]
            return ((outputs - targets) ** 2).mean()

        updates, opt_state = tx.update(jax.grad(loss)(own["params"]), opt_state)
        return own | {"params": optax.apply_updates(own["params"], updates)}, opt_state

    return step


@functools.partial(jax.jit, static_argnums=0)
def _features(backbone: nn.Module, variables: Any, images: jax.Array) -> jax.Array:
    return backbone.apply(variables, data.normalize(images), train=False, method="attend")[0]


@jax.jit
def _random_units(kernel, bias, features):
    return nn.sigmoid(jnp.dot(features, kernel, precision="highest") + bias[None])


def _standardised(mean, deviation, features):
    x = (np.asarray(features, np.float64) - mean) / deviation
    return np.concatenate([x, np.ones((len(x), 1))], 1)
