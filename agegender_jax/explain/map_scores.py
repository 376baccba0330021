"""Scores of a net's maps compared with uninformed maps, with known regions, and with the randomised net.

Scores are means over N images. Differences are paired by image. Intervals are 95 %, by the percentile bootstrap or, for
rates, Wilson's. Their units are groups of near-duplicates: `group`, int [N], is equal for the images of one group; None
if all images are independent.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np

from agegender_jax import metrics
from agegender_jax.explain import faithfulness, localisation, sanity
from agegender_jax.explain.maps import Maps, Progress, in_batches, silent

RANDOM_SEEDS = 4  # random maps per image, whose scores are averaged
CONTROLS = ("random", "blob")


def score(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    maps: Maps,
    cue_masks: list[dict[str, np.ndarray]] | None,
    progress: Callable[..., None] = lambda *step: None,
    group: np.ndarray | None = None,
) -> dict:
    """Return all scores of a net's maps for results.json, as plain dicts, lists and floats.

    Args:
      images: uint8 RGB [N, H, W, 3], those of `maps`.
      cue_masks: `localisation.cues` of each image if all are synthetic faces, else None.
      progress: receives (done, total, description).
    """
    by_head = areas(net, variables, images, maps, lambda *n: progress(*n, "deletion and insertion"))
    randomised = sanity.similarities(net, variables, images, maps, lambda *n: progress(*n, "weight randomisation"))
    scores: dict[str, Any] = {}
    for head in maps.targets:
        rows = {name: faithfulness_scores(by_head[head], name, group) for name in by_head[head]}
        if cue_masks is not None:
            cover = np.stack([masks[head] for masks in cue_masks])
            for name, values in (maps.for_head(head) | _controls(images.shape[:3])).items():
                rows[name]["localisation"] = localisation_scores(values, cover, group)
        for name, levels in randomised[head].items():
            rows[name]["sanity"] = sanity_scores(levels, None if group is None else group[sanity.rows(len(images))])
        scores[head] = {"maps": rows}
        for method, relevance in maps.relevance.get(head, {}).items():
            scores[head][f"{method}_account"] = relevance_shares(relevance)
    return scores


def areas(
    net: nn.Module, variables: Any, images: np.ndarray, maps: Maps, progress: Progress = silent
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Return the areas of every map: head -> name -> {"deletion": [N], "insertion": [N]}; see `faithfulness`.

    Names are those of `Maps.for_head` and CONTROLS: "random", averaged over RANDOM_SEEDS maps, and "blob".
    """
    groups: dict = {}  # (head, or None for maps of both heads; name) -> maps whose areas are averaged
    for head, attributions in maps.attributions.items():
        groups |= {(head if n in attributions else None, n): [m] for n, m in maps.for_head(head).items()}
    shape = images.shape[:3]
    groups[None, "random"] = [faithfulness.random_maps(seed, shape) for seed in range(RANDOM_SEEDS)]
    groups[None, "blob"] = [faithfulness.blob(shape)]
    all_areas = in_batches(
        lambda images, stacked, targets: faithfulness.areas(net, variables, images, stacked, targets),
        (images, [values for group in groups.values() for values in group], maps.targets),
        progress,
        axis=1,
    )
    ends = np.cumsum([len(group) for group in groups.values()])[:-1]
    result: dict[str, dict[str, dict]] = {head: {} for head in maps.targets}
    for head, kinds in all_areas.items():
        parts = {kind: dict(zip(groups, np.split(values, ends), strict=True)) for kind, values in kinds.items()}
        for name in (*maps.for_head(head), *CONTROLS):
            key = (head if name in maps.attributions[head] else None, name)
            result[head][name] = {kind: part[key].mean(0) for kind, part in parts.items()}
    return result


def faithfulness_scores(by_name: dict[str, dict[str, np.ndarray]], name: str, group: np.ndarray | None = None) -> dict:
    """Return the mean areas of a map with intervals, and the differences from the CONTROLS on the same images."""
    scores: dict[str, Any] = {kind: _estimate(values, group) for kind, values in by_name[name].items()}
    if name not in CONTROLS:
        for control in CONTROLS:
            differences = {kind: values - by_name[control][kind] for kind, values in by_name[name].items()}
            scores[f"minus_{control}"] = {kind: _estimate(values, group) for kind, values in differences.items()}
    return scores


def relevance_shares(relevance: Any) -> dict[str, float]:
    """Return LRP's decomposition of the logit as shares of the mean |logit|.

    pixels + absorbed + feed is 1 up to the error. `error` is the mean of |error|, `worst` its maximum.
    """
    size = np.abs(relevance.logit).mean()
    parts = {"pixels": relevance.pixels.sum((1, 2)), "absorbed": relevance.absorbed, "feed": relevance.feed}
    shares = {name: float((part * np.sign(relevance.logit)).mean() / size) for name, part in parts.items()}
    lost = np.abs(relevance.error) / size
    return shares | {"error": float(lost.mean()), "worst": float(lost.max())}


def localisation_scores(maps: np.ndarray, cover: np.ndarray, group: np.ndarray | None = None) -> dict:
    """Return the scores of maps [N, H, W] against cues that cover [N, H, W]; see `localisation`."""
    inside, hits = localisation.shares(maps, cover), localisation.hits(maps, cover)
    valid = np.isfinite(inside)
    area = localisation.area(cover)
    valid_group = None if group is None else group[valid]
    return {
        "n": int(valid.sum()),
        "share": _estimate(inside[valid], valid_group),
        "area": float(area.mean()),
        "minus_area": _estimate((inside - area)[valid], valid_group),
        "pointing": {"mean": float(hits.mean()), "ci95": metrics.wilson(hits, group)},
        "pointing_by_chance": float(localisation.chance(cover).mean()),
    }


def sanity_scores(levels: dict[str, tuple[np.ndarray, np.ndarray]], group: np.ndarray | None = None) -> dict:
    """Return the mean likeness by level, and whether the map differs enough from that of the fully random net."""
    rows: list[dict[str, Any]] = [
        {"level": level, "likeness": _estimate(signed, group), "likeness_of_size": _estimate(size, group)}
        for level, (signed, size) in levels.items()
    ]
    last = max(rows[-1][kind]["mean"] for kind in ("likeness", "likeness_of_size"))
    count = len(next(iter(levels.values()))[0])
    return {"n": count, "levels": rows, "last": last, "limit": sanity.LIMIT, "passes": bool(last < sanity.LIMIT)}


def _controls(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"random": faithfulness.random_maps(0, shape), "blob": faithfulness.blob(shape)}


def _estimate(values: np.ndarray, group: np.ndarray | None) -> dict:
    """Return mean and interval; the mean is None without values, the interval also where all values are equal."""
    return {"mean": float(values.mean()) if len(values) else None, "ci95": metrics.bootstrap_varied(values, group)}
