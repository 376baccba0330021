"""The images that an evaluation scores: their source, their split, and those that a member was trained on."""

import functools
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax.data import named_sources
from agegender_jax.data.prepare import prepared_in
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run import leaks, recorded_split
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir


def data_config(runs: Sequence[Workdir], configs: Sequence[dict], source: str | None) -> ConfigDict:
    """Return the first member's config with the source to score.

    One source may have several paths, for example a folder and its tar. Without `source`, and for the cache, the paths
    in the config of a run are used only if its training wrote that config in place, or if this user has named them
    before.

    Raises:
      ConfigError: no source is named, and the members were trained on different sources or a run may be from elsewhere.
    """
    sources = {config["data"]["source"] for config in configs}
    if source is None and len(sources) > 1 and not _one_source(runs, configs):
        raise ConfigError(
            f"the members were trained on different sources: {', '.join(sorted(sources))}",
            "--source",
            "name the images to score with --source",
        )
    config = config_lib.default()
    config.data.update(configs[0]["data"])
    config.data.update(train_on="", exclude="", splits="")  # the test split needs none of them, see `load_scored`
    original, cache_dir = runs[0].is_original(), config.data.cache_dir
    if not (original or named_sources.is_cache(cache_dir)) or not prepared_in(cache_dir, _fingerprint(runs[0])):
        config.data.cache_dir = ""
    if source is not None:
        config.data.source = source
    elif not (original or named_sources.is_source(config.data.source)):
        raise ConfigError(
            "the run was copied or unpacked, perhaps from an untrusted place, so the source in its config is not read",
            f"{runs[0].config}: data.source={config.data.source}",
            f"name the images to score: --source={config.data.source} if that is yours",
        )
    return config


def load_scored(runs: Sequence[Workdir], configs: Sequence[dict], fields: ConfigDict, progress: Progress) -> Dataset:
    """Prepare or load the images to score, with the split of the first member.

    Args:
      fields: from `data_config`.

    Raises:
      DataError: the source cannot be used, or is no longer the one that `data.splits` of the first member divided.
    """
    dataset = load_dataset(fields, progress.prepare)
    split = recorded_split.read(runs[0], configs[0], dataset.prepared)
    if split is not None:
        return Dataset(dataset.prepared, split)
    if configs[0]["data"].get("splits") and fields.data.source == configs[0]["data"]["source"]:
        raise DataError(
            "the source has images that the run's splits.csv does not name, and data.splits had named the split",
            f"{dataset.prepared.name}: {runs[0].splits}",
            "restore the source, or score other images with --source",
        )
    return dataset


def choose_split(
    runs: Sequence[Workdir], configs: Sequence[dict], source: str | None, dataset: Dataset, progress: Progress
) -> str:
    """Return "all" for a source that no member was trained on, else "test"."""
    if source is None or source in [config["data"]["source"] for config in configs]:
        return "test"
    if any(_is_source(run, config, dataset) for run, config in zip(runs, configs, strict=True)):
        return "test"
    progress.note(
        f"{dataset.prepared.name} is not the source of any member: {len(dataset.indices('all'))} of its "
        f"{len(dataset.assignment)} images are scored, those of all splits; --split=test scores a tenth of them"
    )
    return "all"


def check_leak(run: Workdir, dataset: Dataset, split: str) -> None:
    """Raise DataError if the member has seen an image to score, or a near-duplicate of it."""
    leaked = leaks.find(run, dataset, split)
    if len(leaked):
        raise DataError(
            f"{len(leaked)} of {len(dataset.indices(split))} images, or near-duplicates of them, were trained or "
            f"validated on, for example {dataset.prepared.file[leaked[0]]}",
            str(run.splits),
            "leave them out with --exclude_leaked, or score them with --allow_leak; the results record either",
        )


def without_leaked(runs: Sequence[Workdir], dataset: Dataset, split: str, progress: Progress) -> tuple[Dataset, int]:
    """Return the dataset without the images of a split that a member has seen, and their number."""
    leaked = functools.reduce(np.union1d, (leaks.find(run, dataset, split) for run in runs)).astype(int)
    count = len(dataset.indices(split))
    if len(leaked) == count:
        raise DataError(
            f"all {count} images, or near-duplicates of them, were trained or validated on",
            dataset.prepared.name,
            "score other images",
        )
    if len(leaked):
        progress.note(
            f"{len(leaked)} of {count} images are left out: they, or near-duplicates of them, were trained or "
            "validated on"
        )
    return dataset.without(leaked), len(leaked)


def _one_source(runs: Sequence[Workdir], configs: Sequence[dict]) -> bool:
    """Return whether the runs have the same images in `data.source`, whatever they are also trained on."""
    if not any(config["data"].get("train_on") for config in configs):
        return len({_fingerprint(run) for run in runs}) == 1
    try:
        return len({recorded_split.source_digest(*of) for of in zip(runs, configs, strict=True)}) == 1
    except DataError:  # no splits.csv
        return False


def _is_source(run: Workdir, config: dict, dataset: Dataset) -> bool:
    """Return whether a run was trained on the train split of these images, perhaps together with `data.train_on`."""
    if dataset.prepared.fingerprint == _fingerprint(run):
        return True
    if not config["data"].get("train_on"):
        return False
    try:
        digest = recorded_split.source_digest(run, config)
    except DataError:  # no splits.csv
        return False
    return digest == recorded_split.pixels_digest(dataset.prepared.sha256)


def _fingerprint(run: Workdir) -> str:
    """Return the fingerprint of a run's source, or the path of the run, which is unique, if run.json has none."""
    source = (run.read_run() or {}).get("source")
    return (source.get("fingerprint") if isinstance(source, dict) else None) or str(run.path)
