"""The report's section on explanations: what the maps' scores are, in one table for all nets and decisions."""

import dataclasses

from agegender_jax.report import formatting

TITLE = "What the nets looked at, and how far the maps can be believed"
HEADINGS = (
    "net, decision: map",
    "deletion",
    "deletion minus random",
    "deletion minus blob",
    "insertion",
    "insertion minus random",
    "insertion minus blob",
    "likeness to a random net's map",
)
ON_DRAWN = ("share inside cues", "share minus area", "largest inside", "inside by chance")


@dataclasses.dataclass(frozen=True)
class Explained:
    """`results`: the value of results.json's "explanations". `figures`: PNG bytes by file name."""

    results: dict
    figures: dict[str, bytes]


def explanations(results: dict) -> dict:
    """A section of the report, from the value of results.json's "explanations".

    Returns:
      "title"; "text", a list of paragraphs; "figures": file name -> caption; "headings"; "rows", lists of cells.
    """
    checked = next(row["sanity"] for _, _, _, row in _maps(results) if "sanity" in row)
    known = any("localisation" in row for _, _, _, row in _maps(results))
    figures = {
        f"explanations_{name}.png": f"{name}: which pixels spoke for its answers, given above each picture (red) and "
        "against them (blue); Grad-CAM has no sign. Each map is scaled by itself."
        for name in results["members"]
    }
    text = [
        f"{results['n']} images at even distances over the split; intervals are 95 %, bootstrap over images. Deletion "
        "replaces the picture's cells by its mean colour, those first that the map names first; insertion puts them "
        "into the blurred picture. The figure is the mean probability of the net's answer along the way: a map that "
        "finds what the answer rests on has a low deletion and a high insertion. A random map and a centred blob know "
        "nothing of the net; a map that is not better than both shows nothing that they do not. Probabilities in this "
        "section are the nets' own, before any temperature.",
        "Likeness is the mean size of the rank correlation of a map with the same net's map after all weights were "
        f"drawn anew, once, on {checked['n']} of the images (the larger of the map's and its absolute value's). A map "
        f"that stays alike, from {checked['limit']} on, shows the picture, not what the net has learned, and fails.",
        *_accounts(results),
    ]
    if known:
        text.append(
            "The faces are drawn, so it is known where age and gender show. The share of positive relevance inside of "
            "these regions stands beside their share of the picture, and the rate at which the largest value lies "
            "inside beside that of a pixel drawn by chance. Weak cues, such as the jaw's line, are not in the regions."
        )
    rows = [
        [f"{net}, {head}: {formatting.map_name(name)}", *_cells(row), *(_inside(row["localisation"]) if known else ())]
        for net, head, name, row in _maps(results)
    ]
    return {
        "title": TITLE,
        "text": text,
        "figures": figures,
        "headings": [*HEADINGS, *(ON_DRAWN if known else ())],
        "rows": rows,
    }


def _maps(results: dict):
    for net, told in results["members"].items():
        for head in ("age", "gender"):
            for name, row in told[head]["maps"].items():
                yield net, head, name, row


def _accounts(results: dict) -> list[str]:
    parts = [
        f"{net}, {head} {told[head]['lrp_account']['error']:.1%} (at most {told[head]['lrp_account']['worst']:.1%})"
        for net, told in results["members"].items()
        for head in ("age", "gender")
    ]
    return [f"LRP's conservation error, its mean size over that of the logit: {'; '.join(parts)}."]


def _cells(row: dict) -> list[str]:
    cells = []
    for kind in ("deletion", "insertion"):
        cells.append(f"{row[kind]['mean']:.3f}")
        for control in ("minus_random", "minus_blob"):
            cells.append(_difference(row[control][kind]) if control in row else "")
    if "sanity" not in row:
        return [*cells, ""]
    return [*cells, f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " (fails)")]


def _inside(found: dict) -> list[str]:
    if found["share"]["mean"] is None:
        return ["n/a", "n/a", f"{found['pointing']['mean']:.2f}", f"{found['pointing_by_chance']:.2f}"]
    low, high = found["pointing"]["ci95"]
    return [
        f"{found['share']['mean']:.3f}",
        _difference(found["minus_area"]),
        f"{found['pointing']['mean']:.2f} [{low:.2f}, {high:.2f}]",
        f"{found['pointing_by_chance']:.2f}",
    ]


def _difference(found: dict) -> str:
    return f"{found['mean']:+.3f} {formatting.interval(found['ci95'], '+.3f')}".strip()
