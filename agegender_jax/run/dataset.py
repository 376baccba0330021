"""The dataset of a run: a prepared source, its split, and batches of it."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax.data import csv_splits, pipeline, split_exceptions
from agegender_jax.data.decoding import decode
from agegender_jax.data.prepare import prepare
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.structs import Batch


@dataclasses.dataclass
class Dataset:
    """A prepared source and the split of each image: "train", "val", "test" or "" (`assignment`, str [N])."""

    prepared: Prepared
    assignment: np.ndarray

    def indices(self, split: str) -> np.ndarray:
        """Return the indices of the images in a split, int [n]; "all" means every split."""
        return np.flatnonzero(self.assignment == split if split != "all" else self.assignment != "")

    def without(self, indices: np.ndarray) -> "Dataset":
        """Return the dataset with the images at `indices` removed from their splits."""
        assignment = self.assignment.copy()
        assignment[indices] = ""
        return Dataset(self.prepared, assignment)

    def targets(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of a split: age, int32 [n, 2], and gender, int32 [n]."""
        where = self.indices(split)
        return self.prepared.age[where], self.prepared.gender[where]

    def picture(self, index: int) -> np.ndarray:
        """Return an image at its original size, uint8 RGB [H, W, 3]."""
        return decode(self.prepared.encoded(index))

    def train_batches(
        self, config: ConfigDict, start: int, num_steps: int, progress: Callable | None = None
    ) -> Iterator[Batch]:
        """Return this process's share of the batches of the steps start + 1 to num_steps."""
        return pipeline.train_batches(
            self.prepared.images(config.data.image_size, progress),
            self.prepared.age,
            self.prepared.gender,
            indices=self.indices("train"),
            seed=config.seed,
            batch_size=config.batch_size,
            start=start,
            num_steps=num_steps,
            num_workers=config.data.num_workers,
            age_years=self.prepared.age_years,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def batch_files(self, config: ConfigDict, step: int) -> list[str]:
        """Return the files of the global batch of step `step`, counted from 1."""
        rows = pipeline.batch_indices(self.indices("train"), config.seed, config.batch_size, step)
        return self.prepared.file[rows].tolist()

    def eval_batches(
        self, split: str, image_size: int, batch_size: int, progress: Callable | None = None
    ) -> Iterator[Batch]:
        """Return this process's share of the batches of a split: each image once, in order, with the last batch padded.

        Args:
          batch_size: over all devices of all processes, rounded up to a multiple of their number.
        """
        faces, where = self.prepared, self.indices(split)
        size = min(batch_size, max(2, len(where)))
        return pipeline.eval_batches(
            faces.images(image_size, progress),
            faces.age,
            faces.gender,
            indices=where,
            batch_size=-(-size // jax.device_count()) * jax.device_count(),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )


def load_dataset(config: ConfigDict, progress: Callable | None = None, on_bad: Callable | None = None) -> Dataset:
    """Prepare or load `config.data.source`, joined with `data.train_on`, and split it.

    Args:
      on_bad: as in `prepare`.

    Raises:
      DataError: the source, `data.splits` or `data.exclude` cannot be used.
    """
    fields = config.data
    source = split_exceptions.join(fields.source, fields.train_on)
    prepared = prepare(source, fields.cache_dir or None, fields.max_bad, progress, on_bad)
    own, folder = np.ones(len(prepared.file), bool), ""
    if fields.train_on:
        names = split_exceptions.own_names(fields.source, fields.train_on)
        own = split_exceptions.belongs_to(prepared.file, names)
        folder = f"{names[0]}/" if len(names) == 1 else ""
    if fields.splits:
        split = csv_splits.assign(prepared, own, fields.splits, folder)
    else:
        split = split_exceptions.assign(own, prepared, fields.split_seed)
    if fields.exclude:
        split = split_exceptions.exclude(split, prepared.file, prepared.bad, fields.exclude)
    return Dataset(prepared, split)
