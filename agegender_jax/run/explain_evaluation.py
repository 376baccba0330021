"""The explanations of an evaluation: maps of some of its images, scored and drawn."""

import time
from collections.abc import Sequence

import numpy as np

from agegender_jax import loading, models, report
from agegender_jax.errors import ConfigError
from agegender_jax.explain import localisation, maps, scoring
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir


def explain(
    places: Sequence[Workdir],
    names: Sequence[str],
    checkpoint: str,
    faces: Dataset,
    split: str,
    count: int,
    progress: Progress,
) -> report.Explained:
    """Scores every member's maps on `count` images at even distances over a split, or on all where there are fewer."""
    where = faces.indices(split)
    where = where[np.unique(np.linspace(0, len(where) - 1, min(count, len(where)), dtype=int))]
    members, figures = {}, {}
    for place, name in zip(places, names, strict=True):
        begun = time.perf_counter()
        net, variables, config, _ = loading.load_checkpoint(place.path, checkpoint, progress.warn)
        size = config["data"]["image_size"]
        images = np.asarray(faces.prepared.images(size, progress.prepare)[where])
        drawn = maps.draw(net, variables, images, progress=lambda *n, name=name: progress.prepare(*n, f"{name}: maps"))
        told = scoring.score(
            net,
            variables,
            images,
            drawn,
            _covers(faces, where, size),
            lambda *n, name=name: progress.prepare(*n[:2], f"{name}: {n[2]}"),
        )
        members[name] = told | {"seconds": round(time.perf_counter() - begun, 1)}
        truth = faces.prepared.age[where], faces.prepared.gender[where]
        figures[f"explanations_{name}.png"] = report.explanation_grid(images, drawn, *truth)
    return report.Explained({"n": len(where), "members": members}, figures)


def check_no_control(place: Workdir, config: dict) -> None:
    """ConfigError for a net whose age head is fed one of `models.CONTROLS`."""
    feed = config["model"]["gender_to_age"]
    if feed in models.CONTROLS:
        raise ConfigError(
            f"the age head of this run is fed the {feed} gender: a control, whose decisions cannot be explained",
            str(place.path),
            "name a run of another model.gender_to_age",
        )


def _covers(faces: Dataset, where: np.ndarray, size: int) -> list[dict[str, np.ndarray]] | None:
    """Where the cues are in each image at `size` pixels; None unless all are faces that the library draws."""
    try:
        return [localisation.cues(faces.prepared.file[i], faces.picture(i).shape[0], size) for i in where]
    except ValueError:
        return None
