"""Checks before a run starts or resumes, and before its state is saved; each raises a UserError."""

import collections
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import files, models
from agegender_jax.errors import ConfigError, DataError, NotFiniteError
from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import determinism, processes
from agegender_jax.run.workdir import Workdir

LOCAL = ("data.source", "data.cache_dir", "data.num_workers")  # may differ between the processes of a run
PATHS = ("data.source", "data.train_on", "data.exclude", "data.cache_dir", "init_from")
SHOWN = 4  # processes in a message


def before_data(config: ConfigDict) -> None:
    """Check all that needs no data: the devices, the processes' configs, and the options of the net."""
    even_devices()
    processes.connect()
    with processes.sync_errors():
        same_config_everywhere(config)
    with processes.sync_errors():
        local_paths(config)
        deterministic(config)
        batch_norm(config)
        devices(config)
        feed(config)
        parts(config)


def same_config_everywhere(config: ConfigDict) -> None:
    """Raise ConfigError, in every process, where a process has another config; the path of the data may differ."""
    fields = {name: value for name, value in config_lib.flat(config) if name not in LOCAL}
    digests = processes.gather_texts(hashlib.sha256(repr(fields).encode()).hexdigest())
    differing = [i for i, digest in enumerate(digests) if digest != digests[0]]
    if differing:
        raise ConfigError(
            f"the processes have different configs: {_listed(differing)} not that of process 0",
            "--config",
            f"give every process the same command but for {', '.join(LOCAL)}",
        )


def same_data_everywhere(faces: Dataset) -> None:
    """Raise DataError, in every process, where a process has other images or another split."""
    split = hashlib.sha256("\n".join(faces.assignment).encode()).hexdigest()
    fingerprints = processes.gather_texts(f"{faces.prepared.fingerprint} {split}")
    differing = [i for i, text in enumerate(fingerprints) if text != fingerprints[0]]
    if differing:
        shown = "; ".join(f"process {i}: fingerprint {fingerprints[i][:16]}" for i in (0, *differing[:SHOWN]))
        raise DataError(
            f"the processes have different data: {_listed(differing)} not those of process 0",
            shown,
            "give every process the same files: the same names and bytes",
        )


def even_devices() -> None:
    """Raise ConfigError unless every process drives as many devices."""
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"the processes drive different numbers of devices: {', '.join(str(counts[i]) for i in sorted(counts))}",
            "devices",
            "give each process as many as the others, for example with CUDA_VISIBLE_DEVICES",
        )


def local_paths(config: ConfigDict) -> None:
    """Raise ConfigError where a field names a URL, or a home folder that is not known."""
    for field, paths in config_lib.flat(config):
        if field in PATHS:
            for path in paths.split(","):
                files.expand(path, f"--config.{field}")


def devices(config: ConfigDict) -> None:
    if config.batch_size % jax.device_count():
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared evenly by {jax.device_count()} devices",
            "--config.batch_size",
            f"use a multiple of {jax.device_count()}",
        )


def deterministic(config: ConfigDict) -> None:
    """Raise ConfigError where GPUs were started without the setting that `deterministic` needs."""
    if config.deterministic and jax.default_backend() == "gpu" and not determinism.is_requested():
        raise ConfigError(
            "deterministic=True must be set before jax starts",
            "--config.deterministic",
            f"call agegender_jax.run.host.determinism.request() first, or set XLA_FLAGS={determinism.FLAG}=true",
        )


def batch_norm(config: ConfigDict) -> None:
    """Raise ConfigError for an option that the net does not have, or where BatchNorm would see one image at a time."""
    model = models.from_config(config.model)
    if hasattr(getattr(model, "backbone", None), "axis_name") and config.batch_size // config.accumulate == 1:
        raise ConfigError(
            "BatchNorm cannot learn statistics from one image at a time",
            f"--config.batch_size={config.batch_size}, --config.accumulate={config.accumulate}",
            "use at least two images in each part of the batch",
        )


def parts(config: ConfigDict) -> None:
    """Raise ConfigError where a device's batch has no equal parts, or mixup would mix examples of different parts."""
    count = jax.device_count() * config.accumulate
    where = f"--config.batch_size={config.batch_size}, {jax.device_count()} devices, accumulate {config.accumulate}"
    if config.batch_size % count:
        raise ConfigError("the batch cannot be divided into equal parts", where, f"use a multiple of {count}")
    if config.augment.mixup and config.batch_size % (2 * count):
        raise ConfigError(
            "mixup needs an even number of images on each device and in each part",
            where,
            f"use a multiple of {2 * count}, or --config.augment.mixup=0",
        )


def feed(config: ConfigDict) -> None:
    if config.model.gender_to_age == "shuffled" and (
        config.batch_size < 2 * jax.device_count() * config.accumulate or config.eval.batch_size < 2
    ):
        raise ConfigError(
            "a shuffled feed needs at least two images a device in every batch",
            "--config.batch_size, --config.eval.batch_size",
            f"use a batch_size from {2 * jax.device_count()} and an eval.batch_size from 2",
        )


def same_run(workdir: Workdir, config: ConfigDict) -> bool:
    """Return whether the workdir holds a run of this config; raise ConfigError if it holds another."""
    earlier = workdir.read_config()
    if earlier is None:
        if any(workdir.checkpoints.glob("[0-9]*")):
            raise ConfigError(
                "the workdir holds checkpoints of a run whose config is gone",
                str(workdir.config),
                "restore config.json (each checkpoint has a copy), or use another --workdir",
            )
        if workdir.results.exists():
            raise ConfigError(
                "the workdir holds the results of an evaluation, which the run's own would replace",
                str(workdir.results),
                "use another --workdir",
            )
        return False
    differences = config_lib.resume_difference(earlier, config_lib.to_dict(config))
    if differences:
        raise ConfigError(
            f"the workdir holds a run with another config: {'; '.join(differences)}",
            str(workdir.config),
            "use another --workdir, or the config of that run",
        )
    return True


def same_data(workdir: Workdir, faces: Dataset) -> None:
    earlier = workdir.read_run()
    if earlier and earlier["source"]["fingerprint"] != faces.prepared.fingerprint:
        raise DataError(
            "the source has changed since the run began",
            f"{faces.prepared.name}: fingerprint {faces.prepared.fingerprint[:16]}, "
            f"was {earlier['source']['fingerprint'][:16]}",
            "restore the source, or train in another --workdir",
        )
    if any(workdir.checkpoints.glob("[0-9]*")):
        _same_split(workdir, faces)


def _same_split(workdir: Workdir, faces: Dataset) -> None:
    """Raise DataError if splits.csv has another split for an image; training on would leak test images."""
    try:
        images = leaks.read_splits(workdir)
    except DataError:  # missing or damaged: it is written again
        return
    now = dict(zip(faces.prepared.file.tolist(), faces.assignment.tolist(), strict=True))
    moved = [file for file, split in zip(images.file, images.split, strict=True) if now.get(file, split) != split]
    if moved:
        raise DataError(
            f"{len(moved)} images are in another split than when the run began, for example {moved[0]}",
            str(workdir.splits),
            "resume with the version of agegender_jax that began the run, or train in another --workdir",
        )


def batch_fits(faces: Dataset, config: ConfigDict) -> None:
    """Raise DataError unless the train split fills one batch."""
    count = len(faces.indices("train"))
    if config.batch_size > count:
        raise DataError(
            f"batch_size {config.batch_size} is larger than the train split of {count} images",
            f"--config.data.source={config.data.source}",
            "lower --config.batch_size or give more images",
        )


def empty_splits(faces: Dataset) -> list[str]:
    """Return a warning for each of val and test that has no image."""
    consequences = {
        "val": "the latest checkpoint is tested, without temperatures and without an alarm for collapsed heads",
        "test": "the results have no scores",
    }
    return [
        f"the {split} split is empty, so {consequence}; give at least 10 images"
        for split, consequence in consequences.items()
        if not len(faces.indices(split))
    ]


@contextlib.contextmanager
def explained_memory(config: ConfigDict) -> Iterator[None]:
    """Raise ConfigError in place of the device's own error where its memory is too small."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"out of memory on {jax.local_devices()[0].device_kind}: {str(error).splitlines()[0][:120]}",
            f"--config.batch_size={config.batch_size}, --config.eval.batch_size={config.eval.batch_size}, "
            f"--config.data.image_size={config.data.image_size}",
            "lower batch_size or eval.batch_size, or set --config.model.dtype=bfloat16, --config.accumulate=2 or "
            "--config.remat=True; another program may hold memory too",
        ) from error


def is_finite(values: Any) -> bool:
    """Return whether no number in a pytree is NaN or infinite."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(values))


def finite(step: int, values: Any) -> None:
    """Raise NotFiniteError where a number in a pytree is NaN or infinite."""
    if not is_finite(values):
        raise NotFiniteError(
            f"the loss or a weight is not finite at or shortly before step {step}",
            "training",
            "lower --config.optimizer.lr or set --config.optimizer.clip_norm=1; the checkpoints before are good",
        )


def _listed(numbers: Sequence[int]) -> str:
    """Return `process 1 has` or `processes 1, 2 and 5 more have`."""
    shown = ", ".join(map(str, numbers[:SHOWN])) + (f" and {len(numbers) - SHOWN} more" if numbers[SHOWN:] else "")
    return f"process {shown} has" if len(numbers) == 1 else f"processes {shown} have"
