"""Confusion matrices: counts next to shares of the true class (arXiv 2010.03791, Figs. 13 and 14)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from agegender_jax.report.figures import style


def confusion(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Return two matrices, true class by row, of the classes that occur as label or prediction.

    Args:
      counts: int [K, K].
      names: of the K classes.
    """
    occurring = np.flatnonzero(counts.sum(0) + counts.sum(1))
    counts, names = counts[np.ix_(occurring, occurring)], [names[i] for i in occurring.tolist()]
    of_class = counts.sum(1)
    shares = counts / np.maximum(of_class[:, None], 1)
    side = 2.1 + 0.36 * len(names)
    figure = style.new(2 * side + 1.2, side)
    left, right = figure.subplots(1, 2)
    most = max(int(counts.max()), 2)
    texts = np.where(counts > 0, counts.astype(str), "")
    _matrix(left, np.where(counts > 0, counts, np.nan), texts, names, LogNorm(1, most))
    left.set_title("images (colour: log scale)", fontsize=9)
    texts = np.where(counts > 0, np.char.mod("%.2f" if len(names) > 2 else "%.3f", shares), "")
    image = _matrix(right, np.where(of_class[:, None] > 0, shares, np.nan), texts, names, Normalize(0, 1))
    right.set_title("share of the true class", fontsize=9)
    left.set_yticks(range(len(names)), [f"{n}  (n = {c:,})" for n, c in zip(names, of_class, strict=True)])
    figure.colorbar(image, ax=right, shrink=0.8)
    figure.suptitle(f"{title}, n = {int(of_class.sum()):,}", fontsize=11)
    return figure


def _matrix(axis, values: np.ndarray, texts: np.ndarray, names: Sequence[str], norm):
    image = axis.imshow(values, cmap="cividis", norm=norm)
    axis.set_facecolor("#f2f2f2")
    for (i, j), text in np.ndenumerate(texts):
        if text:
            dark = norm(values[i, j]) < 0.5
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(names)), names, **(slanted if len(names) > 2 else {}))
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    return image
