"""Figures as PNG: learning curves, sample predictions, confusion matrices (arXiv 2010.03791, Figs. 12 to 14)."""

import dataclasses
import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agegender_jax import metrics
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.structs import Probs

LINES = (("loss", "loss (nats)"), ("age_accuracy", "age accuracy"), ("gender_accuracy", "gender accuracy"))
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
DPI = 110
SAMPLES, COLUMNS = 16, 8


@dataclasses.dataclass(frozen=True)
class Curve:
    """The lines of a run's metrics.jsonl."""

    name: str
    rows: list[dict]


def draw(
    probs: Probs,
    age: np.ndarray,
    gender: np.ndarray,
    picture: Callable[[int], np.ndarray],
    curves: Sequence[Curve],
    name: str,
) -> dict[str, bytes]:
    """PNG bytes by file name.

    Args:
      probs: of N examples, by the model `name`; age: int [N, 2]; gender: int [N].
      picture: uint8 RGB [H, W, 3] of an example.
    """
    drawn = {}
    if any(curve.rows for curve in curves):
        drawn["curves.png"] = _png(_curves(curves))
    if len(gender):
        drawn["samples.png"] = _png(_samples(probs, age, gender, picture))
        counts = metrics.confusion(probs.age, probs.gender, age, gender)
        drawn["confusion_age.png"] = _png(_confusion(counts["age"], AGE_BUCKETS, f"age bucket, {name}"))
        drawn["confusion_gender.png"] = _png(_confusion(counts["gender"], GENDERS, f"gender, {name}"))
    return drawn


def _curves(curves: Sequence[Curve]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axis, (key, label) in zip(figure.subplots(1, len(LINES)), LINES, strict=True):
        for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
            for split, style in (("train", {"alpha": 0.45, "linewidth": 1}), ("val", {"marker": "o", "markersize": 3})):
                points = [(r["epoch"], r[key]) for r in curve.rows if r["split"] == split and r.get(key) is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), color=colour, label=f"{curve.name}, {split}", **style)
        axis.set(xlabel="epoch", ylabel=label)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return figure


def _samples(probs: Probs, age: np.ndarray, gender: np.ndarray, picture: Callable[[int], np.ndarray]) -> Figure:
    """Examples at even distances, the prediction above and in orange where it is wrong, the label below."""
    chosen = np.unique(np.linspace(0, len(gender) - 1, SAMPLES, dtype=int))
    bucket, answer = probs.age.argmax(-1), probs.gender.argmax(-1)
    figure = Figure(figsize=(11, 2 * -(-len(chosen) // COLUMNS)), layout="constrained")
    places = figure.subplots(-(-len(chosen) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axis in places:
        axis.axis("off")
    for axis, i in zip(places, chosen, strict=False):
        axis.imshow(picture(i))
        right = answer[i] == gender[i] and age[i, 0] <= bucket[i] <= age[i, 1]
        told = f"{GENDERS[answer[i]]} {AGE_BUCKETS[bucket[i]]}"
        axis.set_title(told, fontsize=9, color="black" if right else COLOURS[1], weight="normal" if right else "bold")
        label = f"{GENDERS[gender[i]]} {metrics.range_name(*age[i])}"
        axis.text(0.5, -0.04, label, transform=axis.transAxes, ha="center", va="top", fontsize=8, color="#555555")
    return figure


def _confusion(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Rows sum to 1; each cell has its count."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.55 * len(names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axis, label="share of the true class", shrink=0.8)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            dark = shares[i, j] < 0.5
            axis.text(j, i, str(count), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), [f"{n} (n={c})" for n, c in zip(names, counts.sum(1), strict=True)])
    axis.set(xlabel="predicted", ylabel="true", title=title)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, dpi=DPI, metadata={"Software": None})
    return out.getvalue()
