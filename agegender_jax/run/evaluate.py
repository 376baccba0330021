"""The evaluation command: score trained nets, alone and as an ensemble, on the same images."""

import functools
from collections.abc import Sequence
from pathlib import Path

from agegender_jax import files, models
from agegender_jax.data.resolve import check_outside
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run.explanations import explain_evaluation
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.scoring.named_runs import member_names, read_runs
from agegender_jax.run.scoring.scored_images import check_leak, choose_split, data_config, load_scored, without_leaked
from agegender_jax.run.scoring.split_predictions import predict_member
from agegender_jax.run.scoring.write_results import write_results
from agegender_jax.run.workdir import Workdir, check_replaces, make_out, out_folder


def evaluate(
    workdirs: Sequence[str],
    *,
    source: str | None,
    split: str | None,
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
    """Score the nets of `workdirs` on a split of `source`, write the report to `out`, and return the results.

    Args:
      source: path of the images; the members' own source if None.
      split: "train", "val", "test" or "all"; if None, "all" for a source that no member was trained on, else "test".
      checkpoint: "best", "latest" or a step.
      out: folder; reports/<names joined by +> if None.
      allow_leak: score images that a member was trained on.
      exclude_leaked: leave out images that a member was trained on, and score the rest.
      allow_control: score nets whose age head receives the true gender or a shuffled one.
      calibrate: apply the temperatures that the members fitted on val in training.
      views: views of each image to average over, see `data.views`; None for each member's `eval.views`.
      command: the program's arguments, for the report.
      draw: draw figures; those of `explain` are drawn in any case.
      explain: number of images to explain, see `explain_evaluation`.

    Raises:
      ConfigError, DataError, CheckpointError: an argument is wrong, or images or runs cannot be used.
    """
    if allow_leak and exclude_leaked:
        raise ConfigError(
            "--allow_leak and --exclude_leaked contradict each other",
            "--allow_leak, --exclude_leaked",
            "pass one of the two",
        )
    runs, configs = read_runs(workdirs)
    for run, config in zip(runs, configs, strict=True):
        if explain:
            explain_evaluation.check_no_control(run, config)
        if not allow_control:
            check_no_control(run, config)
    names = member_names([run.path.name for run in runs])
    folder = files.resolve(out or f"reports/{'+'.join(names)}", "--out")
    fields = data_config(runs, configs, source)
    trained_on = [
        config["data"].get("train_on", "") for run, config in zip(runs, configs, strict=True) if run.is_original()
    ]
    for spec in (fields.data.source, *filter(None, trained_on)):
        check_outside(spec, folder, "--out")
    make_out(folder)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        dataset = load_scored(runs, configs, fields, progress)
        if warning := dataset.prepared.warning():
            progress.warn(warning)
        split = split or choose_split(runs, configs, source, dataset, progress)
        if not len(dataset.indices(split)):
            raise DataError(f"the {split} split is empty", dataset.prepared.name, "give more images, or --split=all")
        check_out(folder, runs, split, dataset.prepared.fingerprint)
        excluded = 0
        if exclude_leaked:
            dataset, excluded = without_leaked(runs, dataset, split, progress)
        elif not allow_leak:
            for run in runs:
                check_leak(run, dataset, split)
        members = [
            predict_member(run, checkpoint, dataset, split, name, progress, calibrate, views)
            for run, name in zip(runs, names, strict=True)
        ]
        steps = [member.step for member in members]
        explanations = functools.partial(
            explain_evaluation.explain, runs, names, steps, dataset, split, explain, progress
        )
        return write_results(
            folder,
            members,
            dataset,
            split,
            progress,
            allow_leak,
            command,
            draw,
            explanations if explain else None,
            excluded,
        )


def check_no_control(run: Workdir, config: dict) -> None:
    """Raise ConfigError for a net whose age head receives the true gender or a shuffled one."""
    feed = config["model"]["gender_to_age"]
    if feed in models.CONTROLS:
        raise ConfigError(
            f"the age head of this run is fed the {feed} gender: a control, which predicts nothing",
            str(run.path),
            "name a run of another model.gender_to_age, or pass --allow_control, and compare with care",
        )


def check_out(folder: Path, runs: Sequence[Workdir], split: str, fingerprint: str) -> None:
    """Raise ConfigError if the folder has results of other members, another split or another source."""

    def is_same(earlier: dict) -> bool:
        members = out_folder.workdirs(earlier["models"])
        return (members, earlier["split"], earlier["source"]["fingerprint"]) == (
            [run.path for run in runs],
            split,
            fingerprint,
        )

    def describe(earlier: dict) -> str:
        members = ", ".join(map(str, out_folder.workdirs(earlier["models"])))
        return f"{members} on the {earlier['split']} split of {earlier['source'].get('name')}"

    check_replaces(folder / "results.json", is_same, describe)
