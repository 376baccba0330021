"""A net's maps scored: against maps without knowledge, on known regions, and against the same net with fresh weights.

Means over N pictures, every difference paired picture by picture, intervals 95 % by the percentile bootstrap over
pictures (rates: Wilson's).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from agegender_jax import metrics
from agegender_jax.explain import faithfulness, localisation, maps, sanity
from agegender_jax.explain.maps import Maps

RANDOM_SEEDS = 4  # random maps of each picture, their scores averaged
SANITY_IMAGES = 16
CONTROLS = ("random", "blob")
Told = Callable[[int, int], None]


def score(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    found: Maps,
    covers: list[dict[str, np.ndarray]] | None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> dict:
    """All scores of a net's maps, as results.json keeps them: plain dicts, lists and floats.

    Args:
      images: uint8 RGB [N, H, W, 3], those of `found`.
      covers: of drawn faces, `localisation.cues` of each.
      progress: is told (done, total, what is done).
    """
    flat = areas(net, variables, images, found, lambda *n: progress(*n, "deletion and insertion"))
    checked = _sanity(net, variables, images, found, lambda *n: progress(*n, "weight randomisation"))
    told = {}
    for head in found.targets:
        rows = {name: faithfulness_of(flat[head], name) for name in flat[head]}
        if covers is not None:
            cover = np.stack([c[head] for c in covers])
            for name, map_ in (found.of(head) | _controls(images.shape[:3])).items():
                rows[name]["localisation"] = _localisation(map_, cover)
        for name, levels in checked[head].items():
            rows[name]["sanity"] = levels
        told[head] = {"maps": rows}
        if head in found.relevance:
            told[head]["lrp_account"] = account(found.relevance[head])
    return told


def areas(
    net: nn.Module, variables: Any, images: np.ndarray, found: Maps, progress: Told = lambda done, total: None
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Areas of every map: head -> name -> {"deletion": [N], "insertion": [N]}; see `faithfulness`.

    Names are those of `Maps.of`, and CONTROLS: "random", averaged over RANDOM_SEEDS maps, and "blob".
    """
    keyed = {}
    for head, own in found.attributions.items():
        keyed |= {(head if name in own else None, name): [map_] for name, map_ in found.of(head).items()}
    shape = images.shape[:3]
    keyed[None, "random"] = [faithfulness.random_maps(seed, shape) for seed in range(RANDOM_SEEDS)]
    keyed[None, "blob"] = [faithfulness.blob(shape)]
    whole = maps.in_batches(
        lambda images, of, targets: faithfulness.areas(net, variables, images, of, targets),
        (images, [map_ for group in keyed.values() for map_ in group], found.targets),
        progress,
        axis=1,
    )
    ends = np.cumsum([len(group) for group in keyed.values()])[:-1]
    told: dict[str, dict[str, dict]] = {head: {} for head in found.targets}
    for head, kinds in whole.items():
        parts = {kind: dict(zip(keyed, np.split(values, ends), strict=True)) for kind, values in kinds.items()}
        for name in (*found.of(head), *CONTROLS):
            key = (head if name in found.attributions[head] else None, name)
            told[head][name] = {kind: part[key].mean(0) for kind, part in parts.items()}
    return told


def faithfulness_of(rows: dict[str, dict[str, np.ndarray]], name: str) -> dict:
    """Mean areas of a map with intervals, and its differences from the CONTROLS on the same pictures."""
    told: dict[str, Any] = {kind: _mean(values) for kind, values in rows[name].items()}
    for control in CONTROLS:
        if name not in CONTROLS:
            told[f"minus_{control}"] = {k: _mean(values - rows[control][k]) for k, values in rows[name].items()}
    return told


def account(relevance: Any) -> dict[str, float]:
    """LRP's account, in shares of the mean |logit|: what pixels, biases and feed tell for the logit, and what was lost.

    `error` is the mean of |error|, `worst` its largest value; pixels + absorbed + feed is 1 but for the error.
    """
    size = np.abs(relevance.logit).mean()
    parts = {"pixels": relevance.pixels.sum((1, 2)), "absorbed": relevance.absorbed, "feed": relevance.feed}
    shares = {name: float((part * np.sign(relevance.logit)).mean() / size) for name, part in parts.items()}
    lost = np.abs(relevance.error) / size
    return shares | {"error": float(lost.mean()), "worst": float(lost.max())}


def _localisation(map_: np.ndarray, cover: np.ndarray) -> dict:
    inside, hits = localisation.shares(map_, cover), localisation.hits(map_, cover)
    known = np.isfinite(inside)
    even = localisation.area(cover)
    return {
        "n": int(known.sum()),
        "share": _mean(inside[known]),
        "area": float(even.mean()),
        "minus_area": _mean((inside - even)[known]),
        "pointing": {"mean": float(hits.mean()), "ci95": metrics.wilson(hits)},
        "pointing_by_chance": float(localisation.chance(cover).mean()),
    }


def _controls(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"random": faithfulness.random_maps(0, shape), "blob": faithfulness.blob(shape)}


def _sanity(net, variables, images, found: Maps, progress: Told) -> dict[str, dict[str, dict]]:
    """Head -> name -> likeness by level, and whether the wholly random net's maps are unlike enough."""
    some = np.unique(np.linspace(0, len(images) - 1, SANITY_IMAGES, dtype=int))
    images, targets = images[some], {head: values[some] for head, values in found.targets.items()}
    told = {head: {name: [] for name in found.of(head)} for head in found.targets}
    levels = list(sanity.randomised(net, variables, images.shape[1], jax.random.key(0)))
    for done, (level, fresh) in enumerate(levels, 1):
        after = maps.draw(
            net,
            fresh,
            images,
            methods=list(next(iter(found.attributions.values()))),
            heads=list(targets),
            targets=targets,
        )
        for head, names in told.items():
            for name, rows in names.items():
                pair = found.of(head)[name][some], after.of(head)[name]
                whole, size = sanity.likeness(*pair), sanity.likeness(*map(np.abs, pair))
                rows.append({"level": level, "likeness": _mean(whole), "likeness_of_size": _mean(size)})
        progress(done, len(levels))
    return {head: {name: _verdict(rows, len(some)) for name, rows in names.items()} for head, names in told.items()}


def _verdict(levels: list[dict], count: int) -> dict:
    last = max(levels[-1][kind]["mean"] for kind in ("likeness", "likeness_of_size"))
    return {"n": count, "levels": levels, "last": last, "limit": sanity.LIMIT, "passes": bool(last < sanity.LIMIT)}


def _mean(values: np.ndarray) -> dict:
    """Mean and interval; None for both without a value, for the interval also where all values are equal."""
    return {"mean": float(values.mean()) if len(values) else None, "ci95": metrics.bootstrap_varied(values)}
