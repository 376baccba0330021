"""Scores of every group with intervals."""

import numpy as np
from matplotlib.figure import Figure

from agegender_jax.report.figures import style

SCORES = (("age_accuracy", "age accuracy"), ("gender_accuracy", "gender accuracy"), ("aabd", "AABD (buckets)"))
KINDS = ("gender", "race", "age")


def groups(results: dict) -> Figure | None:
    """Return the three scores by gender, race and age group, small groups hollow; None without groups."""
    rows = [(kind, name, group) for kind in KINDS for name, group in results["groups"][kind].items()]
    if not rows:
        return None
    names = [f"{kind} {name}  (n = {group['n']:,})" for kind, name, group in rows]
    kinds = np.array([KINDS.index(kind) for kind, _, _ in rows])
    positions = np.arange(len(rows)) + 0.8 * kinds  # with a gap between the kinds
    figure = style.new(11, 1.5 + 0.27 * len(rows))
    for axis, (score, label) in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES, strict=True):
        points = [(group[score], (group.get("ci95") or {}).get(score)) for _, _, group in rows]
        for kind, colour in enumerate((style.BLUE, style.GREEN, style.PURPLE)):
            members = np.flatnonzero(kinds == kind)
            small = [rows[i][2].get("small", False) for i in members]
            style.dots(axis, positions[members], [points[i] for i in members], small, colour, vertical=False)
        axis.axvline(results["models"][-1][score], color=style.GREY, linestyle="--", linewidth=1)
        axis.set(xlabel=label)
        style.grid(axis)
        if score != "aabd":
            axis.set_xlim(right=1.02)
    axis.set_yticks(positions, names)
    axis.invert_yaxis()
    figure.suptitle(
        f"{results['models'][-1]['name']} by group: 95 % intervals; dashed: all images; hollow: n < 30", fontsize=11
    )
    return figure
