"""Expected age against true age, in years."""

import numpy as np
from matplotlib.figure import Figure

from agegender_jax import metrics
from agegender_jax.report.figure_data import Examples
from agegender_jax.report.figures import style

CELLS = 34


def expected_age(examples: Examples) -> Figure | None:
    """Return the density of (true, expected) age and the errors per age band; None if no years are known."""
    known = examples.years >= 0
    if examples.bucket_years is None or not known.any():
        return None
    true = examples.years[known]
    expected = metrics.expected_age(examples.probs.age[known], examples.bucket_years)
    figure = style.new(11, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _density(figure, left, true, expected)
    _errors(right, true, expected - true, examples.group[known])
    figure.suptitle(f"Expected age, {examples.name}, n = {len(true):,}", fontsize=11)
    return figure


def _density(figure: Figure, axis, true: np.ndarray, expected: np.ndarray) -> None:
    last = float(max(true.max(), expected.max())) + 3
    cells = axis.hexbin(true, expected, gridsize=CELLS, extent=(0, last, 0, last), mincnt=1, bins="log", cmap="cividis")
    figure.colorbar(cells, ax=axis, label="images (log scale)", format="%d")
    axis.plot([0, last], [0, last], color=style.VERMILION, linewidth=1.2, label="expected = true")
    axis.set(xlabel="true age (years)", ylabel="expected age (years)", xlim=(0, last), ylim=(0, last), aspect="equal")
    axis.legend(fontsize=8, loc="upper left")


def _errors(axis, true: np.ndarray, error: np.ndarray, group: np.ndarray) -> None:
    bands = np.array(metrics.age_bands(true, [""] * len(true)))
    names = list(dict.fromkeys(bands[np.argsort(true, kind="stable")]))
    errors, groups = ([values[bands == name] for name in names] for values in (error, group))
    kinds = (
        ("mean |error|", np.abs, style.BLUE, -0.12),
        ("mean error (expected - true)", np.asarray, style.VERMILION, 0.12),
    )
    for name, transform, colour, offset in kinds:
        points = [
            (float(transform(v).mean()), metrics.bootstrap_varied(transform(v), of))
            for v, of in zip(errors, groups, strict=True)
        ]
        few = [len(values) < metrics.SMALL for values in errors]
        style.dots(axis, np.arange(len(names)) + offset, points, few, colour, vertical=True)
        axis.plot([], [], "o-", color=colour, label=name)
    axis.axhline(0, color=style.GREY, linewidth=0.8)
    ticks = [f"{name}\nn = {len(values):,}" for name, values in zip(names, errors, strict=True)]
    axis.set_xticks(range(len(names)), ticks)
    axis.set(xlabel=f"true age (years); bars: 95 % interval of the mean; hollow: n < {metrics.SMALL}", ylabel="years")
    axis.margins(y=0.14)
    axis.legend(fontsize=8, loc="upper center", ncols=2)
    style.grid(axis)
