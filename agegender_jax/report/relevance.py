"""The report's section that compares the relevance of several nets, as Fig. 3 of arXiv 2010.03791, with scores."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from agegender_jax.report import formatting

TITLE = "The relevance of pixels, net by net"
HEADINGS = (
    "net, decision",
    "rules",
    "deletion: map",
    "deletion: random map",
    "deletion: difference",
    "insertion: map",
    "insertion: random map",
    "insertion: difference",
    "similarity to a random net's map",
    "pixels' share of the logit",
    "biases' share",
)
SYNTHETIC_HEADINGS = ("true cues: share of relevance", "true cues: area", "true cues: difference")
RULES = {"lrp_composite": "composite", "lrp": "epsilon"}  # the first that a net has is shown


@dataclasses.dataclass(frozen=True)
class NetRelevance:
    """A net's explanations of N images.

    Attributes:
      images: uint8 RGB [N, H, W, 3], at the net's size.
      maps: explain.maps.Maps of them, with LRP.
      scores: of `explain.scoring.score`.
    """

    images: np.ndarray
    maps: Any
    scores: Mapping[str, Any]


def relevance_figure(head: str) -> str:
    """Return the file name of the figure with the relevance of all nets."""
    return f"relevance_{head}.png"


def method_of(maps: Mapping[str, Any]) -> str:
    """Return the method of LRP that is shown of a net with these maps."""
    return next(method for method in RULES if method in maps)


def relevance_section(results: dict) -> dict | None:
    """Return a section of the report, as `explanations`, or None with fewer than two nets that have LRP.

    Args:
      results: value of "explanations" in results.json.
    """
    members = {name: heads for name, heads in results["members"].items() if "lrp_account" in heads["age"]}
    if len(members) < 2:
        return None
    rows = [(f"{name}, {head}", heads[head]) for name, heads in members.items() for head in ("age", "gender")]
    synthetic = any("localisation" in row for _, scores in rows for row in scores["maps"].values())
    cues = (
        " True cues are the regions of a synthetic face that show age or gender. A map without information has "
        "as much of its positive relevance in them as their area."
    )
    return {
        "title": TITLE,
        "text": [
            "The same pictures under layer-wise relevance propagation (LRP) of each net, as in the paper's Fig. 3, but "
            "with scores. The nets of Lapuschkin et al. 2017 (Levi-Hassner, CaffeNet, GoogLeNet, VGG-16) have their "
            "composite rules, all others the epsilon rule, so maps of the two kinds also differ by their rules.",
            f"Deletion and insertion are mean probabilities of the predicted class over {results['n']} pictures; low "
            "deletion and high insertion are better than a random map. They depend on how sure the net is, so each net "
            "is compared with random maps on itself, not with another net. A similarity of 0.5 or more fails."
            + cues
            * synthetic,
        ],
        "headings": [*HEADINGS, *(SYNTHETIC_HEADINGS if synthetic else ())],
        "rows": [[name, *_cells(scores, synthetic)] for name, scores in rows],
        "figures": {
            relevance_figure(
                head
            ): f"The relevance of the pixels to the {head} that each net predicts: red for it, blue against it."
            for head in ("age", "gender")
        },
    }


def _cells(scores: Mapping[str, Any], synthetic: bool) -> list[str]:
    method = method_of(scores["maps"])
    row, random = scores["maps"][method], scores["maps"]["random"]
    cells = [RULES[method]]
    for kind in ("deletion", "insertion"):
        cells += [f"{row[kind]['mean']:.3f}", f"{random[kind]['mean']:.3f}", _difference(row["minus_random"][kind])]
    cells.append(f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " (fails)"))
    shares = scores[f"{method}_account"]
    cells += [f"{100 * shares[name]:.0f} %" for name in ("pixels", "absorbed")]
    if synthetic:
        cues = row["localisation"]
        cells += [formatting.number(cues["share"]["mean"]), f"{cues['area']:.3f}", _difference(cues["minus_area"])]
    return cells


def _difference(estimate: Mapping[str, Any]) -> str:
    value = formatting.number(estimate["mean"], "+.3f")
    return f"{value} {formatting.interval(estimate['ci95'], '+.3f')}".strip()
