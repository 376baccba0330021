"""Losses of the two heads, in float32, one value per example."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agegender_jax import array_checks

AGE_LOSSES = ("ce", "dldl", "ordinal", "mean_variance", "years")
BUCKET_YEARS = 10
MEAN_WEIGHT, VARIANCE_WEIGHT = 0.2, 0.05  # Pan et al. 2018, section 4.2, there of ages in years, here of buckets


def age_loss(
    logits: jax.Array,
    age: jax.Array,
    smoothing: float = 0.0,
    *,
    kind: str = "ce",
    spread: float = 0.5,
    bucket_weights: np.ndarray | None = None,
    years: jax.Array | None = None,
    open_from: int | None = None,
) -> jax.Array:
    """Return the age loss of logits if the buckets first..last count as correct: [B, A], int [B, 2] -> [B].

    With q the summed probability of the correct buckets and d(a) the distance of bucket a from the nearest of them:

    | kind          | loss                                                                                  |
    |---------------|---------------------------------------------------------------------------------------|
    | ce            | -log q; the cross-entropy where one bucket is right                                   |
    | dldl          | -(t log q + sum over the others of t(a) log p(a)), t(a) ~ exp(-d(a)^2 / (2 spread^2)) |
    |               | (label distributions, Gao et al. 2017, arXiv 1611.01731)                              |
    | ordinal       | the same with t(a) ~ exp(-d(a) / spread) (SORD, Diaz and Marathe, CVPR 2019)          |
    | mean_variance | -log q + 0.2 / 2 * (distance of the mean to first..last)^2 + 0.05 * variance          |
    |               | (Pan et al., CVPR 2018)                                                               |
    | years         | -sum over all buckets of t(a) log p(a), t(a) the share of bucket a in a normal        |
    |               | distribution around the age in years, with a standard deviation of 10 * spread years; |
    |               | -log q where only a group of ages is known                                            |

    The correct buckets together count once in t. With label smoothing s the loss is (1 - s) of that and s of the
    cross-entropy with the uniform distribution (Szegedy et al. 2016, arXiv 1512.00567).

    Args:
      kind: one of AGE_LOSSES.
      spread: spread of the targets of dldl, ordinal and years, in buckets.
      bucket_weights: float [A]; the loss of an example is multiplied by the mean over its correct buckets. None for 1.
      years: int [B], ages in whole years, negative if unknown; only for the loss "years".
      open_from: first bucket of an open last group, such as "more than 70", of which no label tells the buckets apart,
        see `metrics.open_group`. The group counts as one bucket, the last one, also in `bucket_weights`. None for none.

    Raises:
      ValueError: the kind is unknown, or "years" is used without `years`.
    """
    array_checks.check(logits=(logits, "float B A"), age=(age, "int B 2"))
    log_probs = _joined(jax.nn.log_softmax(logits.astype(jnp.float32)), open_from)
    age = age if open_from is None else jnp.minimum(age, open_from)
    bucket = jnp.arange(log_probs.shape[-1])[None]
    right = (age[:, :1] <= bucket) & (bucket <= age[:, 1:])
    log_right = jax.nn.logsumexp(log_probs, axis=-1, where=right)
    if kind == "ce":
        loss = -log_right
    elif kind == "mean_variance":
        probs = jnp.exp(log_probs)
        position = bucket.astype(jnp.float32)
        mean = (probs * position).sum(-1)
        off = _distance(mean[:, None], age)[:, 0]
        variance = (probs * (position - mean[:, None]) ** 2).sum(-1)
        loss = -log_right + MEAN_WEIGHT / 2 * off**2 + VARIANCE_WEIGHT * variance
    elif kind in ("dldl", "ordinal"):
        distance = _distance(bucket.astype(jnp.float32), age)
        target = jnp.exp(-(distance**2) / (2 * spread**2) if kind == "dldl" else -distance / spread)
        others = jnp.where(right, 0.0, target)
        loss = -(log_right + (others * log_probs).sum(-1)) / (1 + others.sum(-1))
    elif kind == "years":
        if years is None:
            raise ValueError("the age loss 'years' needs the ages in years")
        target = _shares_of_years(years, log_probs.shape[-1], BUCKET_YEARS * spread)
        loss = -jnp.where(years < 0, log_right, (target * log_probs).sum(-1))
    else:
        raise ValueError(f"unknown age loss {kind!r}; known: {', '.join(AGE_LOSSES)}")
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1)
    if bucket_weights is not None:
        loss *= (bucket_weights[None] * right.astype(jnp.float32)).sum(-1) / right.sum(-1, dtype=jnp.float32)
    return loss


def _shares_of_years(years: jax.Array, num_buckets: int, deviation: float) -> jax.Array:
    """Return the mass of each bucket under a normal distribution around the middle of each year: [B] -> [B, A]."""
    inner = BUCKET_YEARS * jnp.arange(1, num_buckets, dtype=jnp.float32)[None]
    below = jax.scipy.special.ndtr((inner - (years[:, None].astype(jnp.float32) + 0.5)) / deviation)
    below = jnp.pad(below, ((0, 0), (1, 0)))  # the first and the last bucket are open
    return jnp.diff(below, axis=-1, append=1.0)


def _joined(log_probs: jax.Array, open_from: int | None) -> jax.Array:
    """Return [B, open_from + 1], with the probability of the classes from `open_from` on as one; unchanged for None."""
    if open_from is None:
        return log_probs
    last = jax.nn.logsumexp(log_probs[:, open_from:], -1, keepdims=True)
    return jnp.concatenate([log_probs[:, :open_from], last], -1)


def bucket_weights(age: np.ndarray, num_buckets: int, power: float, open_from: int | None = None) -> np.ndarray:
    """Return the weight count^-power of each bucket, scaled so that the mean over the examples is 1: float32 [A].

    A bucket without examples gets the weight of a bucket with one example.

    Args:
      age: int [N, 2], first and last correct bucket; an example counts equally in each of its buckets.
      power: 0 for equal weights, 1 for an equal total weight of all buckets.
      open_from: see `age_loss`; the result is then [open_from + 1].
    """
    if open_from is not None:
        age, num_buckets = np.minimum(age, open_from), open_from + 1
    bucket = np.arange(num_buckets)
    shares = ((age[:, :1] <= bucket) & (bucket <= age[:, 1:])).astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    weights = np.maximum(shares.sum(0), 1) ** -power
    return (weights / (shares @ weights).mean()).astype(np.float32)


def _distance(value: jax.Array, age: jax.Array) -> jax.Array:
    """Return the distance of a value from first..last, 0 between them."""
    first, last = age[:, :1].astype(value.dtype), age[:, 1:].astype(value.dtype)
    return jnp.maximum(jnp.maximum(first - value, value - last), 0)


def teacher_loss(logits: jax.Array, probs: jax.Array | np.ndarray, open_from: int | None = None) -> jax.Array:
    """Return the cross-entropy with a teacher's probabilities: [B, N], [B, N] -> [B].

    Hinton et al. 2015, arXiv 1503.02531, with the temperature 1.

    Args:
      open_from: first class of a last group that the teacher cannot tell apart, such as its ages above 70; only the
        probability of the whole group is learned. None for no such group.
    """
    array_checks.check(logits=(logits, "float B N"), probs=(probs, "float B N"))
    log_probs = _joined(jax.nn.log_softmax(logits.astype(jnp.float32)), open_from)
    target = jnp.asarray(probs)
    if open_from is not None:
        target = jnp.concatenate([target[:, :open_from], target[:, open_from:].sum(-1, keepdims=True)], -1)
    return -(target * log_probs).sum(-1)


def gender_loss(logits: jax.Array, gender: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Return the cross-entropy: [B, 2], int [B] -> [B]."""
    array_checks.check(logits=(logits, "float B G"), gender=(gender, "int B"))
    target = optax.smooth_labels(jax.nn.one_hot(gender, logits.shape[-1], dtype=jnp.float32), smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), target)
