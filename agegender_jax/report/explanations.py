"""The report's section on explanations: the scores of all maps in one table."""

import dataclasses
from collections.abc import Iterator

from agegender_jax.report import formatting

TITLE = "What the nets attended to, and how far the maps can be trusted"
HEADINGS = (
    "net, decision: map",
    "deletion",
    "deletion minus random",
    "deletion minus blob",
    "insertion",
    "insertion minus random",
    "insertion minus blob",
    "similarity to a random net's map",
)
SYNTHETIC_HEADINGS = ("share inside cues", "share minus area", "maximum inside", "inside by chance")


@dataclasses.dataclass(frozen=True)
class Explained:
    """Explanations of an evaluation.

    Attributes:
      results: value of "explanations" in results.json.
      figures: PNG bytes by file name.
    """

    results: dict
    figures: dict[str, bytes]


def explanations(results: dict) -> dict:
    """Return a section of the report from the value of "explanations" in results.json.

    Returns:
      "title"; "text", a list of paragraphs; "figures": file name -> caption; "headings"; "rows", lists of cells.
    """
    checked = next(row["sanity"] for _, _, _, row in _maps(results) if "sanity" in row)
    synthetic = any("localisation" in row for _, _, _, row in _maps(results))
    figures = {
        f"explanations_{name}.png": f"{name}: pixels that support the prediction above each picture (red) or oppose it "
        "(blue). Grad-CAM has no sign. Each map has its own scale."
        for name in results["members"]
    }
    with_patches = [name for name, scores in results["members"].items() if "patches" in scores]
    figures |= {
        patches_figure(name): f"{name}: pictures, the weights of their patches, and the patches of the largest weights."
        for name in with_patches
    }
    text = [
        f"{results['n']} evenly spaced images of the split; 95 % intervals by bootstrap over groups of "
        "near-duplicates. Deletion replaces the cells of the picture by its mean colour, in the order of the map; "
        "insertion copies them into the blurred picture. The score is the mean probability of the predicted class "
        "along the way: a faithful map has a low deletion and a high insertion score. A random map and a centred blob "
        "contain no information about the net; a map that is not better than both is of no use. Probabilities in this "
        "section are without temperatures.",
        "Similarity is the mean absolute rank correlation of a map with the map of the same net after all its weights "
        f"were drawn again, once, on {checked['n']} of the images (the larger value for the map and its magnitude). A "
        f"map with a similarity of {checked['limit']} or more shows the picture rather than what the net has learned, "
        "and fails.",
        *_conservation(results),
    ]
    if synthetic:
        text.append(
            "The faces are synthetic, so the regions that show age and gender are known. The table has the share of "
            "positive relevance inside these regions, its difference from their share of the picture, how often the "
            "maximum is inside, and how often a random pixel would be. Weak cues, such as the jaw line, are not part "
            "of the regions."
        )
    text += [_patches(name, results["members"][name]["patches"]) for name in with_patches]
    rows = [
        [
            f"{net}, {head}: {formatting.map_name(name)}",
            *_faithfulness(row),
            *(_localisation(row["localisation"]) if synthetic else ()),
        ]
        for net, head, name, row in _maps(results)
    ]
    return {
        "title": TITLE,
        "text": text,
        "figures": figures,
        "headings": [*HEADINGS, *(SYNTHETIC_HEADINGS if synthetic else ())],
        "rows": rows,
    }


def patches_figure(net: str) -> str:
    """Return the file name of the figure with the patches that a net attends to."""
    return f"patches_{net}.png"


def _maps(results: dict) -> Iterator[tuple[str, str, str, dict]]:
    for net, heads in results["members"].items():
        for head in ("age", "gender"):
            for name, row in heads[head]["maps"].items():
                yield net, head, name, row


def _conservation(results: dict) -> list[str]:
    accounts = {
        f"{net}, {head}{': composite' if method == 'lrp_composite' else ''}": heads[head][f"{method}_account"]
        for net, heads in results["members"].items()
        for head in ("age", "gender")
        for method in ("lrp", "lrp_composite")
        if f"{method}_account" in heads[head]
    }
    parts = [f"{name} {account['error']:.1%} (at most {account['worst']:.1%})" for name, account in accounts.items()]
    text = f"Conservation error of LRP, mean magnitude relative to that of the logit: {'; '.join(parts)}."
    return [text] if parts else []


def _patches(name: str, scores: dict) -> str:
    parts = [
        f"the first {count}, {head} {row['largest']:.2f} and {row['smallest']:.2f} ({_difference(row['difference'])})"
        for count, heads in scores["few"].items()
        for head, row in heads.items()
    ]
    return (
        f"{name} weighs {scores['cells']} patches; the largest weight is {scores['largest']:.2f} on average, equal "
        f"weights are {1 / scores['cells']:.2f}. How often some patches alone predict what all predict, those of the "
        f"largest weights and those of the smallest, and the difference: {'; '.join(parts)}."
    )


def _faithfulness(row: dict) -> list[str]:
    cells = []
    for kind in ("deletion", "insertion"):
        cells.append(f"{row[kind]['mean']:.3f}")
        for control in ("minus_random", "minus_blob"):
            cells.append(_difference(row[control][kind]) if control in row else "")
    if "sanity" not in row:
        return [*cells, ""]
    return [*cells, f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " (fails)")]


def _localisation(scores: dict) -> list[str]:
    hits, chance = scores["pointing"], f"{scores['pointing_by_chance']:.2f}"
    if scores["share"]["mean"] is None:
        return ["n/a", "n/a", f"{hits['mean']:.2f}", chance]
    rate = f"{hits['mean']:.2f} {formatting.interval(hits['ci95'], '.2f')}"
    return [f"{scores['share']['mean']:.3f}", _difference(scores["minus_area"]), rate, chance]


def _difference(estimate: dict) -> str:
    return f"{estimate['mean']:+.3f} {formatting.interval(estimate['ci95'], '+.3f')}".strip()
