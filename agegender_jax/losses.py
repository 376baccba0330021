"""Cross-entropies of the two heads, in float32."""

import jax
import jax.numpy as jnp
import optax


def age_loss(logits: jax.Array, age: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-log of the summed probability of the buckets first..last: [B, A], int [B, 2] -> [B].

    For one bucket this is the cross-entropy. With label smoothing s the target is (1 - s) of it and s of the
    uniform distribution (Szegedy et al. 2016, arXiv 1512.00567).
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    bucket = jnp.arange(logits.shape[-1])
    right = (age[:, :1] <= bucket) & (bucket <= age[:, 1:])
    loss = -jax.nn.logsumexp(log_probs, axis=-1, where=right)
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * log_probs.mean(-1)


def gender_loss(logits: jax.Array, gender: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy: [B, 2], int [B] -> [B]."""
    target = optax.smooth_labels(jax.nn.one_hot(gender, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), target)
