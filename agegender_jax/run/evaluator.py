"""The evaluation job: trained nets, alone and together, on the same images, and the refusal to score leaked ones."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agegender_jax import config as config_lib
from agegender_jax.data import splits
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.run import inputs, outcome
from agegender_jax.run.progress import Progress
from agegender_jax.run.workdir import Workdir


def evaluate(
    workdirs: Sequence[str],
    *,
    source: str | None,
    split: str,
    checkpoint: str,
    out: str | None,
    allow_leak: bool,
) -> dict:
    """Scores the nets of `workdirs` on a split of `source`, writes the report to `out`, returns the results.

    Args:
      source: where the images are; the members' own source if None.
      split: "train", "val", "test" or "all".
      checkpoint: "best", "latest" or a step.
      out: folder; reports/<names joined by +> if None.

    Raises:
      ConfigError, DataError, CheckpointError: as the exit codes say.
    """
    if not workdirs:
        raise ConfigError("--workdir is missing", "--workdir", "name the folder of at least one run")
    places = [Workdir(path) for path in workdirs]
    configs = [_config(place) for place in places]
    names = member_names([place.path.name for place in places])
    folder = Path(out or f"reports/{'+'.join(names)}").expanduser().resolve()
    _make(folder)
    with Progress() as progress:
        faces = inputs.load(_data_config(configs, source), progress.prepare)
        if not len(faces.indices(split)):
            raise DataError(f"the {split} split is empty", faces.prepared.name, "give more images, or --split=all")
        if not allow_leak:
            for place in places:
                _check_leak(place, faces, split)
        members = [
            outcome.member(place, checkpoint, faces, split, name, progress)
            for place, name in zip(places, names, strict=True)
        ]
        return outcome.write(folder, members, faces, split, progress, allow_leak)


def member_names(names: Sequence[str]) -> list[str]:
    """The names, a second equal one with -2 behind it, and so on."""
    found: list[str] = []
    for name in names:
        count, told = 1, name
        while told in found:
            count += 1
            told = f"{name}-{count}"
        found.append(told)
    return found


def _config(place: Workdir) -> dict:
    config = place.read_config() if place.path.is_dir() else None
    if config is None:
        raise CheckpointError(
            "there is no run in the workdir", str(place.path), "train first, or name another --workdir"
        )
    return config


def _data_config(configs: Sequence[dict], source: str | None):
    """The first member's config, with the source to score."""
    sources = {config["data"]["source"] for config in configs}
    if source is None and len(sources) > 1:
        raise ConfigError(
            f"the members were trained on different sources: {', '.join(sorted(sources))}",
            "--source",
            "say with --source which images to score",
        )
    config = config_lib.default()
    config.data.update(configs[0]["data"])
    if source is not None:
        config.data.source = source
    return config


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out cannot be used: {error.strerror}", str(folder), "name a folder that can be written"
        ) from None


def _check_leak(place: Workdir, faces: inputs.Faces, split: str) -> None:
    """DataError where an image to score, or a near-duplicate of it, was in the member's train or val split."""
    seen = _seen(place)
    where = faces.indices(split)
    pairs = splits.near_duplicates(faces.prepared.dhash[where], seen)
    if len(pairs):
        leaked = np.unique(pairs[:, 0])
        raise DataError(
            f"{len(leaked)} of {len(where)} images, or near-duplicates of them, were trained or validated on, "
            f"for example {faces.prepared.file[where[leaked[0]]]}",
            str(place.splits),
            "score other images, or pass --allow_leak, which the results then say",
        )


def _seen(place: Workdir) -> np.ndarray:
    """Difference hashes uint8 [M, 32] of the images in a run's train and val splits."""
    try:
        with open(place.splits, newline="", encoding="utf-8", errors="surrogateescape") as file:
            hashes = [bytes.fromhex(row["dhash"]) for row in csv.DictReader(file) if row["split"] != "test"]
            return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    except (OSError, KeyError, TypeError, ValueError):
        raise DataError(
            "without the run's splits.csv nobody can say whether it was trained on these images",
            str(place.splits),
            "restore the file by running the training's command again, or pass --allow_leak",
        ) from None
