"""The evaluation job: trained nets, alone and together, on the same images, and the refusal to score leaked ones."""

import functools
from collections.abc import Sequence

import numpy as np

from agegender_jax import config as config_lib
from agegender_jax import files, models
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.evaluation.members import ENSEMBLE
from agegender_jax.run import dataset, explain_evaluation, leaks
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.predict_members import predict_member
from agegender_jax.run.workdir import Workdir, make_out
from agegender_jax.run.write_results import write_results


def evaluate(
    workdirs: Sequence[str],
    *,
    source: str | None,
    split: str,
    checkpoint: str,
    out: str | None,
    allow_leak: bool,
    exclude_leaked: bool = False,
    allow_control: bool = False,
    calibrate: bool = True,
    views: str | None = None,
    command: Sequence[str] = (),
    draw: bool = True,
    explain: int = 0,
) -> dict:
    """Scores the nets of `workdirs` on a split of `source`, writes the report to `out`, returns the results.

    Args:
      source: where the images are; the members' own source if None.
      split: "train", "val", "test" or "all".
      checkpoint: "best", "latest" or a step's number.
      out: folder; reports/<names joined by +> if None.
      allow_leak: score images that a member was trained on.
      exclude_leaked: leave out images that a member was trained on, and score the rest.
      allow_control: score nets whose age head is fed the true gender or a shuffled one.
      calibrate: apply the temperatures that the members' trainings fitted on val.
      views: of each image, whose predictions are averaged, see `data.views`; None for each member's `eval.views`.
      command: the program's arguments, for the report.
      draw: figures too; those of `explain` in any case.
      explain: how many of the images to explain, see `evidence`.

    Raises:
      ConfigError, DataError, CheckpointError: as the exit codes say.
    """
    if allow_leak and exclude_leaked:
        raise ConfigError(
            "--allow_leak and --exclude_leaked contradict each other",
            "--allow_leak, --exclude_leaked",
            "pass one of the two",
        )
    places, configs = read_runs(workdirs)
    if explain:
        for place, config in zip(places, configs, strict=True):
            explain_evaluation.check_no_control(place, config)
    if not allow_control:
        for place, config in zip(places, configs, strict=True):
            _check_feed(place, config)
    names = member_names([place.path.name for place in places])
    folder = files.expand(out or f"reports/{'+'.join(names)}", "--out").resolve()
    make_out(folder)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        faces = dataset.load_dataset(_data_config(places, configs, source), progress.prepare)
        if not len(faces.indices(split)):
            raise DataError(f"the {split} split is empty", faces.prepared.name, "give more images, or --split=all")
        excluded = 0
        if exclude_leaked:
            faces, excluded = _without_leaked(places, faces, split, progress)
        elif not allow_leak:
            for place in places:
                _check_leak(place, faces, split)
        members = [
            predict_member(place, checkpoint, faces, split, name, progress, calibrate, views)
            for place, name in zip(places, names, strict=True)
        ]
        told = functools.partial(explain_evaluation.explain, places, names, checkpoint, faces, split, explain, progress)
        return write_results(
            folder, members, faces, split, progress, allow_leak, command, draw, told if explain else None, excluded
        )


def read_runs(workdirs: Sequence[str]) -> tuple[list[Workdir], list[dict]]:
    """Return the runs and their configs, as plain dicts.

    Raises:
      ConfigError, CheckpointError: no workdir is named, one is named twice, or one is not that of a run.
    """
    if not workdirs:
        raise ConfigError("--workdir is missing", "--workdir", "name the folder of at least one run")
    places = [Workdir(path) for path in workdirs]
    for i, place in enumerate(places):
        if place.path in [earlier.path for earlier in places[:i]]:  # links and relative paths are resolved
            raise ConfigError(f"a run is named twice: {place.path}", f"--workdir={place.given}", "name each run once")
    return places, [read_config(place) for place in places]


def member_names(names: Sequence[str]) -> list[str]:
    """The names, a second equal one with -2 behind it, and so on; `ensemble` is taken by the ensemble of all."""
    found: list[str] = []
    for name in names:
        count, told = 1, name
        while told in (ENSEMBLE, *found):
            count += 1
            told = f"{name}-{count}"
        found.append(told)
    return found


def read_config(place: Workdir) -> dict:
    """The config of the run in a workdir, as plain dicts; CheckpointError where there is none."""
    config = place.read_config() if place.path.is_dir() else None
    if config is None:
        raise CheckpointError(
            "there is no run in the workdir", str(place.path), "train first, or name another --workdir"
        )
    try:
        config_lib.default().update(config)  # another field or kind of value raises
        config["model"]["gender_to_age"], config["data"]["source"]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            "config.json of the workdir is not the config of a run",
            str(place.config),
            "restore the file, or name another --workdir",
        ) from None
    return config


def _check_feed(place: Workdir, config: dict) -> None:
    feed = config["model"]["gender_to_age"]
    if feed in models.CONTROLS:
        raise ConfigError(
            f"the age head of this run is fed the {feed} gender: a control, which predicts nothing",
            str(place.path),
            "name a run of another model.gender_to_age, or pass --allow_control, and compare with care",
        )


def _data_config(places: Sequence[Workdir], configs: Sequence[dict], source: str | None):
    """The first member's config, with the source to score. One source may have several paths: a folder and its tar."""
    sources = {config["data"]["source"] for config in configs}
    if source is None and len(sources) > 1 and len({_fingerprint(place) for place in places}) > 1:
        raise ConfigError(
            f"the members were trained on different sources: {', '.join(sorted(sources))}",
            "--source",
            "say with --source which images to score",
        )
    config = config_lib.default()
    config.data.update(configs[0]["data"])
    config.data.update(train_on="", exclude="")  # the test split of `data.source` does not depend on them
    if source is not None:
        config.data.source = source
    return config


def _fingerprint(place: Workdir) -> str:
    """Of the source that a run was trained on; where run.json does not say, one that no other run has."""
    found = (place.read_run() or {}).get("source")
    return (found.get("fingerprint") if isinstance(found, dict) else None) or str(place.path)


def _check_leak(place: Workdir, faces: dataset.Dataset, split: str) -> None:
    """DataError where the member has seen an image to score, or a near-duplicate of it."""
    leaked = leaks.find(place, faces, split)
    if len(leaked):
        raise DataError(
            f"{len(leaked)} of {len(faces.indices(split))} images, or near-duplicates of them, were trained or "
            f"validated on, for example {faces.prepared.file[leaked[0]]}",
            str(place.splits),
            "leave them out with --exclude_leaked, or score them with --allow_leak; the results record either",
        )


def _without_leaked(
    places: Sequence[Workdir], faces: dataset.Dataset, split: str, progress: Progress
) -> tuple[dataset.Dataset, int]:
    """Return the dataset without the images of a split that a member has seen, and their number."""
    leaked = functools.reduce(np.union1d, (leaks.find(place, faces, split) for place in places)).astype(int)
    count = len(faces.indices(split))
    if len(leaked) == count:
        raise DataError(
            f"all {count} images, or near-duplicates of them, were trained or validated on",
            faces.prepared.name,
            "score other images",
        )
    if len(leaked):
        progress.note(
            f"{len(leaked)} of {count} images are left out: they, or near-duplicates of them, were trained or "
            "validated on"
        )
    return faces.without(leaked), len(leaked)
