"""Make batches from decoded images. A training batch is a pure function of (seed, step)."""

import os
import threading
from collections.abc import Iterator

import numpy as np

from agegender_jax.structs import Batch

PREFETCH = 4  # batches ready ahead of the step, at least


class _Order:
    """The indices of each step's batch: a new permutation in each epoch, without an incomplete last batch."""

    def __init__(self, indices: np.ndarray, seed: int, batch_size: int):
        self._indices, self._seed, self._batch_size = indices, seed, batch_size
        self._lock, self._epoch, self._permuted = threading.Lock(), -1, indices

    def __call__(self, step: int) -> np.ndarray:
        epoch, batch_index = divmod(step, len(self._indices) // self._batch_size)
        with self._lock:
            if epoch != self._epoch:
                self._permuted = np.random.default_rng((self._seed, epoch)).permutation(self._indices)
                self._epoch = epoch
            return self._permuted[batch_index * self._batch_size : (batch_index + 1) * self._batch_size]


def batch_indices(indices: np.ndarray, seed: int, batch_size: int, step: int) -> np.ndarray:
    """Return the images of the global batch of step `step`, counted from 1."""
    return _Order(np.asarray(indices), seed, batch_size)(step - 1)


def train_batches(
    images: np.ndarray,
    age: np.ndarray,
    gender: np.ndarray,
    *,
    indices: np.ndarray,
    seed: int,
    batch_size: int,
    start: int,
    num_steps: int,
    num_workers: int,
    age_years: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Return the batches of the steps start + 1 to num_steps, gathered ahead of time by threads.

    Args:
      images: uint8 [N, S, S, 3], may be memory-mapped; age: int32 [N, 2]; gender: int32 [N].
      indices: the images to train on.
      batch_size: over all processes; each gets its own contiguous share of every batch.
      num_workers: threads, at most one per core; 0 gathers in the caller's thread.
      age_years: int32 [N], for the batches' `age_years`.
    """
    import grain.python as grain  # here: steps on random images do not need it

    order = _Order(np.asarray(indices), seed, batch_size)
    share = batch_size // process_count

    def gather(step: int) -> Batch:
        rows = order(step)[process_index * share : (process_index + 1) * share]
        years = None if age_years is None else age_years[rows]
        return Batch(images[rows], age[rows], gender[rows], np.ones(len(rows), np.float32), years)

    steps = grain.MapDataset.range(start, num_steps).map(gather)
    threads = min(num_workers, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(PREFETCH, threads) if threads else 0)
    return iter(steps.to_iter_dataset(options))


def eval_batches(
    images: np.ndarray,
    age: np.ndarray,
    gender: np.ndarray,
    *,
    indices: np.ndarray,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yield the images at `indices` once, in order; the last batch is padded with the first ones, where `mask` is 0.

    Args:
      batch_size: over all processes; each gets its own contiguous share of every batch.
    """
    share = batch_size // process_count
    own = slice(process_index * share, (process_index + 1) * share)
    for start in range(0, len(indices), batch_size):
        rows = indices[start : start + batch_size]
        mask = (np.arange(batch_size) < len(rows)).astype(np.float32)
        rows = np.concatenate([rows, np.resize(indices, batch_size - len(rows))])[own]
        yield Batch(images[rows], age[rows], gender[rows], mask[own])
