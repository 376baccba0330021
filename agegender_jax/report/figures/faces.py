"""Faces: a grid over the ages, sample predictions, and the surest mistakes (arXiv 2010.03791, Figs. 10 and 12)."""

import numpy as np
from matplotlib.figure import Figure

from agegender_jax import metrics
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.report.examples import Examples, spread
from agegender_jax.report.figures.mosaic import Row, Tile, mosaic

SAMPLES, MISTAKES, COLUMNS, OF_EACH = 16, 8, 8, 2
SIDE, SMALL = 128, 92  # pixels


def grid(examples: Examples) -> Figure:
    """Two faces of each gender in every age group that has any; fewer where there are fewer."""
    ranges = np.unique(examples.age, axis=0)
    groups = [(examples.age == ends).all(-1) for ends in ranges]
    rows = []
    for gender, name in enumerate(GENDERS):
        chosen = [spread(np.flatnonzero(group & (examples.gender == gender)), OF_EACH) for group in groups]
        for k in range(OF_EACH):
            heads = [""] * len(groups) if k else [metrics.range_name(*ends) for ends in ranges]
            tiles = [
                Tile(examples.picture(some[k]), head, examples.age_text(some[k])) if k < len(some) else None
                for some, head in zip(chosen, heads, strict=True)
            ]
            rows.append(Row(tiles, "" if k else name))
    return mosaic(rows, SMALL)


def samples(examples: Examples) -> Figure:
    """Examples at even distances, the answer above and painted where it is wrong, the label below."""
    chosen = spread(np.arange(len(examples.gender)), SAMPLES)
    bucket, gender = examples.bucket, examples.answer
    tiles = []
    for i in chosen:
        right = gender[i] == examples.gender[i] and bool(examples.age_right[i])
        told = f"{GENDERS[gender[i]]} {AGE_BUCKETS[bucket[i]]}"
        tiles.append(Tile(examples.picture(i), told, f"is {examples.label(i)}", not right))
    return mosaic([Row(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)], SIDE)


def mistakes(examples: Examples) -> Figure | None:
    """For each head the wrong answers with the highest probability, surest first; None without any."""
    heads = (
        ("age", examples.probs.age, examples.bucket, examples.age_right, AGE_BUCKETS),
        ("gender", examples.probs.gender, examples.answer, examples.answer == examples.gender, GENDERS),
    )
    rows = []
    for head, probs, said, right, names in heads:
        sure, wrong = probs.max(-1), np.flatnonzero(~right)
        chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
        tiles = [
            Tile(examples.picture(i), f"{names[said[i]]} ({sure[i]:.3f})", f"is {examples.label(i)}", True)
            for i in chosen
        ]
        if tiles:
            rows.append(Row(tiles, f"{head}: {len(tiles)} surest of {len(wrong)} wrong answers, n = {len(said)}"))
    return mosaic(rows, SIDE) if rows else None
