"""Explanations within an evaluation: maps of some of its images, scored and drawn."""

import time
from collections.abc import Sequence

import numpy as np

from agegender_jax import loading, metrics, models, report
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.explain import HEADS, localisation, map_scores, patches
from agegender_jax.explain.maps import compute_maps
from agegender_jax.labels import GENDERS
from agegender_jax.loading import Trained
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir
from agegender_jax.subsets import evenly_spaced


def explain(
    runs: Sequence[Workdir],
    names: Sequence[str],
    steps: Sequence[int],
    dataset: Dataset,
    split: str,
    count: int,
    progress: Progress,
) -> report.Explained:
    """Score the maps of every run's net on at most `count` evenly spaced images of a split.

    Args:
      steps: of each run's checkpoint, that of its scores: a training that still runs may have saved a better one since.

    Raises:
      CheckpointError: one of the checkpoints is damaged, or a training has removed it meanwhile.
    """
    nets = [_load(run, step, progress) for run, step in zip(runs, steps, strict=True)]
    rows = dataset.indices(split)
    open_from = metrics.open_group(dataset.prepared.age[rows])
    rows = rows[evenly_spaced(len(rows), count)]
    members: dict = {}
    figures: dict = {}
    relevance: dict = {}
    truth = dataset.prepared.age[rows], dataset.prepared.gender[rows]
    labels = [f"{GENDERS[gender]} {metrics.range_name(*age)}" for age, gender in zip(*truth, strict=True)]
    for name, (net, variables, config, _) in zip(names, nets, strict=True):
        start = time.perf_counter()
        size = config["data"]["image_size"]
        images = np.asarray(dataset.prepared.images(size, progress.prepare)[rows])
        cue_masks = _cue_masks(dataset, rows, size)

        def show(done: int, total: int, text: str = "maps", name: str = name) -> None:
            progress.prepare(done, total, f"{name}: {text}")

        maps = compute_maps(net, variables, images, open_from=open_from, progress=show)
        scores = map_scores.score(net, variables, images, maps, cue_masks, show, dataset.prepared.group[rows])
        if patches.has_patches(net):
            scores["patches"] = patches.scores(net, variables, images, dataset.prepared.group[rows], open_from)
            chosen = patches.attended(net, variables, images)
            figures[report.patches_figure(name)] = report.patches_grid(images, chosen, labels)
        members[name] = scores | {"seconds": round(time.perf_counter() - start, 1)}
        figures[f"explanations_{name}.png"] = report.explanation_grid(images, maps, labels)
        if any(maps.relevance.values()):
            relevance[name] = report.NetRelevance(images, maps, scores)
    if len(relevance) > 1:
        for head in HEADS:
            figures[report.relevance_figure(head)] = report.relevance_grid(relevance, head, *truth)
    return report.Explained({"n": len(rows), "members": members}, figures)


def check_no_control(run: Workdir, config: dict) -> None:
    """Raise ConfigError for a net that is one of `models.CONTROLS`."""
    feed = config["model"]["gender_to_age"]
    if feed in models.CONTROLS:
        raise ConfigError(
            f"the age head of this run is fed the {feed} gender: a control, whose decisions cannot be explained",
            str(run.path),
            "name a run of another model.gender_to_age",
        )


def _load(run: Workdir, step: int, progress: Progress) -> Trained:
    """Return the net whose predictions have been scored, of that step and no other."""
    try:
        return loading.load_checkpoint(run.path, step, progress.warn)
    except CheckpointError as error:
        raise CheckpointError(
            f"the scores are written, but step {step} cannot be explained: {error.what}",
            error.where,
            "repeat the command; if the run is still being trained, after its end",
        ) from error


def _cue_masks(dataset: Dataset, rows: np.ndarray, size: int) -> list[dict[str, np.ndarray]] | None:
    """Return the cues of each image at `size` pixels; None unless all images are synthetic faces."""
    try:
        return [localisation.cues(dataset.prepared.file[i], dataset.picture(i).shape[0], size) for i in rows]
    except ValueError:
        return None
