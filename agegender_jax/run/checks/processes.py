"""Checks that the processes of a run have the same devices, config and data."""

import collections
import hashlib
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes

LOCAL = ("data.source", "data.cache_dir", "data.num_workers")  # may differ between the processes of a run
SHOWN = 4  # processes in a message


def even_devices() -> None:
    """Raise ConfigError unless all processes drive the same number of devices."""
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"the processes drive different numbers of devices: {', '.join(str(counts[i]) for i in sorted(counts))}",
            "devices",
            "give each process as many as the others, for example with CUDA_VISIBLE_DEVICES",
        )


def same_config_everywhere(config: ConfigDict) -> None:
    """Raise ConfigError, in every process, if one process has another config; the path of the data may differ."""
    fields = {name: value for name, value in config_lib.flat(config) if name not in LOCAL}
    digests = processes.gather_texts(hashlib.sha256(repr(fields).encode()).hexdigest())
    differing = [i for i, digest in enumerate(digests) if digest != digests[0]]
    if differing:
        raise ConfigError(
            f"the processes have different configs: {_listed(differing)} not that of process 0",
            "--config",
            f"give every process the same command except for {', '.join(LOCAL)}",
        )


def same_data_everywhere(faces: Dataset) -> None:
    """Raise DataError, in every process, if one process has other images or another split."""
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


def _listed(numbers: Sequence[int]) -> str:
    """Return `process 1 has` or `processes 1, 2 and 5 more have`."""
    shown = ", ".join(map(str, numbers[:SHOWN])) + (f" and {len(numbers) - SHOWN} more" if numbers[SHOWN:] else "")
    return f"process {shown} has" if len(numbers) == 1 else f"processes {shown} have"
