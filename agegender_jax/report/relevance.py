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
    "deletion (random)",
    "difference of deletion",
    "insertion (random)",
    "difference of insertion",
    "similarity",
    "pixels",
    "biases",
)
SYNTHETIC_HEADINGS = ("true cues (area)", "difference of cues")
RULES = {"lrp_composite": "composite", "lrp": "epsilon"}  # the first that a net has is shown


@dataclasses.dataclass(frozen=True)
class NetRelevance:
    """A net's explanations of N images.

    Attributes:
      images: uint8 RGB [N, H, W, 3], at the net's size.
      maps: explain.maps.Maps of them, with LRP.
      scores: of `explain.map_scores.score`.
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
    text = [
        "The same pictures under layer-wise relevance propagation (LRP) of each net, as in the paper's Fig. 3, but "
        "with scores. The nets of Lapuschkin et al. 2017 (Levi-Hassner, CaffeNet, GoogLeNet, VGG-16) have their "
        "composite rules, all others the epsilon rule, so maps of the two kinds also differ by their rules.",
        f"Deletion and insertion are mean probabilities of the predicted class over {results['n']} pictures, in "
        "brackets those of random maps, with the paired difference; low deletion and high insertion are good. They "
        "depend on how sure the net is, so each net is compared with random maps on itself, not with another net. "
        "Similarity is that to the map of a random net; 0.5 or more fails. Pixels and biases are their shares of "
        "the logit.",
    ]
    if synthetic:
        text.append(
            "True cues are the regions of a synthetic face that show age or gender: the share of positive relevance in "
            "them, in brackets their share of the picture, which a map without information has."
        )
    caption = "The relevance of the pixels to the {} that each net predicts: red for it, blue against it."
    return {
        "title": TITLE,
        "text": text,
        "headings": [*HEADINGS, *(SYNTHETIC_HEADINGS if synthetic else ())],
        "rows": [[name, *_cells(scores, synthetic)] for name, scores in rows],
        "figures": {relevance_figure(head): caption.format(head) for head in ("age", "gender")},
    }


def _cells(scores: Mapping[str, Any], synthetic: bool) -> list[str]:
    method = method_of(scores["maps"])
    row, random = scores["maps"][method], scores["maps"]["random"]
    cells = [RULES[method]]
    for kind in ("deletion", "insertion"):
        cells += [f"{row[kind]['mean']:.3f} ({random[kind]['mean']:.3f})", _difference(row["minus_random"][kind])]
    cells.append(f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " (fails)"))
    shares = scores[f"{method}_account"]
    cells += [f"{100 * shares[name]:.0f} %" for name in ("pixels", "absorbed")]
    if synthetic:
        cues = row["localisation"]
        share = formatting.number(cues["share"]["mean"])
        cells += [f"{share} ({cues['area']:.3f})", _difference(cues["minus_area"])]
    return cells


def _difference(estimate: Mapping[str, Any]) -> str:
    value = formatting.number(estimate["mean"], "+.3f")
    return f"{value} {formatting.interval(estimate['ci95'], '+.3f')}".strip()
