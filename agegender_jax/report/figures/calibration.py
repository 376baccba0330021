"""Reliability diagrams: accuracy as a function of confidence."""

from matplotlib.figure import Figure

from agegender_jax.report.figures import style

HEADS = ("age", "gender")
WHEN = (("before", style.GREY, "--", "before temperature"), ("after", style.BLUE, "-", "after"))


def reliability(model: dict) -> Figure | None:
    """Return accuracy against confidence of both heads above the number of images per bin; None without images.

    Args:
      model: row of the results, whose `calibration` is drawn.
    """
    calibration = model.get("calibration")
    if not calibration or not any(row["n"] for head in HEADS for row in calibration[head]["reliability"]["before"]):
        return None
    figure = style.new(11, 5.4)
    axes = figure.subplots(2, len(HEADS), sharex=True, height_ratios=(3, 1))
    shown = "after" if calibration["age"]["reliability"]["after"] else "before"
    for head, (top, bottom) in zip(HEADS, axes.T, strict=True):
        top.plot([0, 1], [0, 1], color=style.VERMILION, linewidth=1, label="perfect")
        for when, colour, line, name in WHEN:
            bins = calibration[head]["reliability"][when]
            if bins:
                label = f"{name}, ECE {calibration[head][when]['ece']:.3f}"
                filled = [row for row in bins if row["n"]]
                means = [(row["confidence"], row["accuracy"]) for row in filled]
                top.plot(*zip(*means, strict=True), line, marker="o", markersize=4, color=colour, label=label)
                if when == shown:
                    for row in filled:
                        top.vlines(row["confidence"], *row["ci95"], color=colour, linewidth=1, alpha=0.7)
                edges = [i / len(bins) for i in range(len(bins) + 1)]
                bottom.stairs([row["n"] for row in bins], edges, color=colour, linestyle=line, linewidth=1.5)
        count = sum(row["n"] for row in calibration[head]["reliability"]["before"])
        top.set(ylabel="accuracy (bars: 95 %)", xlim=(0, 1), ylim=(0, 1))
        top.set_title(f"{head}, {model['name']}, n = {count:,}", fontsize=10)
        top.legend(fontsize=8, loc="lower right")
        bottom.set(xlabel="confidence (probability of the prediction)", ylabel="images")
        style.grid(top)
        style.grid(bottom)
    return figure
