"""Confusion matrices: counts beside shares of the true class (arXiv 2010.03791, Figs. 13 and 14)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from agegender_jax.report.figures import style


def confusion(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Two matrices, true class by row, of the classes that are either true or predicted somewhere.

    Args:
      counts: int [K, K]; names: of the K classes.
    """
    kept = np.flatnonzero(counts.sum(0) + counts.sum(1))
    counts, names = counts[np.ix_(kept, kept)], [names[i] for i in kept]
    of_class = counts.sum(1)
    shares = counts / np.maximum(of_class[:, None], 1)
    side = 2.1 + 0.36 * len(names)
    figure = style.new(2 * side + 1.2, side)
    left, right = figure.subplots(1, 2)
    most = max(int(counts.max()), 2)
    told = np.where(counts > 0, counts.astype(str), "")
    _matrix(left, np.where(counts > 0, counts, np.nan), told, names, LogNorm(1, most))
    left.set_title("images (colour: log scale)", fontsize=9)
    told = np.where(counts > 0, np.char.mod("%.2f" if len(names) > 2 else "%.3f", shares), "")
    drawn = _matrix(right, np.where(of_class[:, None] > 0, shares, np.nan), told, names, Normalize(0, 1))
    right.set_title("share of the true class", fontsize=9)
    left.set_yticks(range(len(names)), [f"{n}  (n = {c:,})" for n, c in zip(names, of_class, strict=True)])
    figure.colorbar(drawn, ax=right, shrink=0.8)
    figure.suptitle(f"{title}, n = {int(of_class.sum()):,}", fontsize=11)
    return figure


def _matrix(axis, values: np.ndarray, told: np.ndarray, names: Sequence[str], norm):
    drawn = axis.imshow(values, cmap="cividis", norm=norm)
    axis.set_facecolor("#f2f2f2")
    for (i, j), text in np.ndenumerate(told):
        if text:
            dark = norm(values[i, j]) < 0.5
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(names)), names, **(slanted if len(names) > 2 else {}))
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    return drawn
