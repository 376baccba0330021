"""Distributions of ages in the data and of gender scores per class (arXiv 2010.03791, Figs. 9 and 11)."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from agegender_jax import metrics
from agegender_jax.labels import GENDERS
from agegender_jax.report.figure_data import Examples, Population
from agegender_jax.report.figures import style

SCORE_BINS = np.linspace(0, 1, 26)


def ages(people: Population) -> Figure:
    """Return the number of images by year (if years are known) and by age group, stacked by gender."""
    known = people.years >= 0
    figure = style.new(11, 7 if known.any() else 3.6)
    axes = figure.subplots(2 if known.any() else 1, 1, squeeze=False)[:, 0]
    if known.any():
        _by_years(axes[0], people, known)
    groups = [(range_, (people.age == range_).all(-1)) for range_ in np.unique(people.age, axis=0)]
    axis, base = axes[-1], np.zeros(len(groups), int)
    for i, name in enumerate(GENDERS):
        counts = np.array([int((members & (people.gender == i)).sum()) for _, members in groups])
        label = f"{name}, n = {counts.sum():,}"
        axis.bar(range(len(groups)), counts, bottom=base, color=style.OF_GENDER[i], label=label, width=0.8)
        base += counts
    for position, (_, members) in enumerate(groups):
        axis.annotate(
            f"{base[position]:,}\n({int((members & people.scored).sum()):,})",
            (position, base[position]),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axis.set_xticks(range(len(groups)), [metrics.range_name(*range_) for range_, _ in groups])
    axis.set(xlabel="age group (years); above each bar: images (evaluated images)", ylabel="images")
    axis.margins(y=0.2)
    axis.legend(fontsize=9)
    style.grid(axis)
    figure.suptitle(f"Ages in {people.name}: {len(people.gender):,} images", fontsize=11)
    return figure


def _by_years(axis, people: Population, known: np.ndarray) -> None:
    last = int(people.years.max())
    bins = np.arange(last + 2) - 0.5
    parts = [people.years[known & (people.gender == i)] for i in range(len(GENDERS))]
    axis.hist(parts, bins, stacked=True, color=style.OF_GENDER, label=GENDERS, rwidth=0.9)
    for edge in range(10, last + 1, 10):
        axis.axvline(edge - 0.5, color=style.GREY, linewidth=0.6, linestyle=":")
    axis.set_xticks(range(0, last + 1, 10))
    note = "" if known.all() else f"; known for {int(known.sum()):,} of {len(known):,}"
    axis.set(
        xlabel=f"age (years; dotted: edges of the age buckets{note})", ylabel="images per year", xlim=(-1, last + 1)
    )
    axis.legend(fontsize=9, loc="upper right")
    style.grid(axis)


def scores(examples: Examples) -> Figure:
    """Return histograms of P(female) for each true class, as shares of the class."""
    figure = style.new(8, 3.8)
    axis = figure.subplots()
    for i, name in enumerate(GENDERS):
        members = examples.gender == i
        if members.any():
            n, color = int(members.sum()), style.OF_GENDER[i]
            recall = float((examples.predicted_gender[members] == i).mean())
            p, weights = examples.probs.gender[members, 1], np.full(n, 1 / n)
            axis.hist(p, SCORE_BINS, weights=weights, alpha=0.35, color=color)
            label = f"true {name}, n = {n:,}, correct {recall:.3f}"
            axis.hist(p, SCORE_BINS, weights=weights, histtype="step", linewidth=1.8, color=color, label=label)
    axis.axvline(0.5, color=style.GREY, linestyle="--", linewidth=1)
    axis.set_yscale("function", functions=(np.sqrt, np.square))
    axis.set_yticks([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_ylim(0, min(1, 1.3 * axis.dataLim.ymax))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set(xlabel="P(female); dashed: decision threshold", ylabel="share of true class (root scale)", xlim=(0, 1))
    axis.set_title(f"Gender scores, {examples.name}", fontsize=11)
    axis.legend(fontsize=9, loc="upper center")
    style.grid(axis)
    return figure
