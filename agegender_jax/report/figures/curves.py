"""Learning curves."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from agegender_jax.report.figures import style
from agegender_jax.report.runs import Run

LINES = (("loss", "loss (nats)"), ("age_accuracy", "age accuracy"), ("gender_accuracy", "gender accuracy"))

TRAIN, VAL = {"alpha": 0.45, "linewidth": 1}, {"marker": "o", "markersize": 3}


def curves(runs: Sequence[Run]) -> Figure:
    """Return loss and accuracies over epochs: val with dots, train as thin lines, a ring at the scored checkpoint."""
    figure = style.new(11, 3.6)
    for axis, (key, label) in zip(figure.subplots(1, len(LINES)), LINES, strict=True):
        for run, colour in zip(runs, style.COLOURS * len(runs), strict=False):
            for split, look in (("train", TRAIN), ("val", VAL)):
                rows = [r for r in run.rows if r["split"] == split and r.get(key) is not None and "epoch" in r]
                if rows:
                    points = [(r["epoch"], r[key]) for r in rows]
                    axis.plot(*zip(*points, strict=True), color=colour, label=_label(run, split), **look)
                for row in rows if split == "val" else ():
                    if row["step"] == run.step:
                        ring = {"markersize": 10, "markerfacecolor": "none", "color": colour}
                        axis.plot(row["epoch"], row[key], "o", **ring)
        axis.set(xlabel="epoch", ylabel=label)
        style.grid(axis)
    figure.axes[0].legend(fontsize=8)
    return figure


def _label(run: Run, split: str) -> str:
    return f"{run.name}, {split}" + (f", n = {run.splits[split]:,}" if run.splits else "")
