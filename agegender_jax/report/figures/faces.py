"""Faces: a grid over the ages, sample predictions, most confident errors (arXiv 2010.03791, Figs. 10 and 12)."""

import numpy as np
from matplotlib.figure import Figure

from agegender_jax import metrics
from agegender_jax.labels import GENDERS
from agegender_jax.report.figure_data import Examples
from agegender_jax.report.figures.mosaic import Row, Tile, mosaic
from agegender_jax.subsets import evenly_spaced

SAMPLES, MISTAKES, COLUMNS, OF_EACH = 16, 8, 8, 2
SIDE, SMALL = 128, 92  # pixels


def grid(examples: Examples) -> Figure:
    """Return up to two faces of each gender per age group."""
    ranges = np.unique(examples.age, axis=0)
    groups = [(examples.age == ends).all(-1) for ends in ranges]
    rows = []
    for gender, name in enumerate(GENDERS):
        members = [np.flatnonzero(group & (examples.gender == gender)) for group in groups]
        chosen = [rows_of_group[evenly_spaced(len(rows_of_group), OF_EACH)] for rows_of_group in members]
        for k in range(OF_EACH):
            heads = [""] * len(groups) if k else [metrics.range_name(*ends) for ends in ranges]
            tiles = [
                Tile(examples.picture(some[k]), head, examples.age_text(some[k])) if k < len(some) else None
                for some, head in zip(chosen, heads, strict=True)
            ]
            rows.append(Row(tiles, "" if k else name))
    return mosaic(rows, SMALL)


def samples(examples: Examples) -> Figure:
    """Return evenly spaced examples with the prediction above, highlighted if it is wrong, and the label below."""
    bucket, gender = examples.predicted_bucket, examples.predicted_gender
    names, tiles = metrics.bucket_names(examples.age), []
    for i in evenly_spaced(len(examples.gender), SAMPLES):
        correct = gender[i] == examples.gender[i] and bool(examples.age_correct[i])
        text = f"{GENDERS[gender[i]]} {names[bucket[i]]}"
        tiles.append(Tile(examples.picture(i), text, f"is {examples.label(i)}", not correct))
    return mosaic([Row(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)], SIDE)


def mistakes(examples: Examples) -> Figure | None:
    """Return the wrong predictions of each head with the highest probability; None if there are none."""
    predicted_gender, names = examples.predicted_gender, metrics.bucket_names(examples.age)
    age_probs = metrics.join_open_group(examples.probs.age, examples.age)
    heads = (
        ("age", age_probs, examples.predicted_bucket, examples.age_correct, names),
        ("gender", examples.probs.gender, predicted_gender, predicted_gender == examples.gender, [*GENDERS]),
    )
    rows = []
    for head, probs, predicted, correct, names in heads:
        confidence, wrong = probs.max(-1), np.flatnonzero(~correct)
        chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
        tiles = [
            Tile(examples.picture(i), f"{names[predicted[i]]} ({confidence[i]:.3f})", f"is {examples.label(i)}", True)
            for i in chosen
        ]
        if tiles:
            rows.append(Row(tiles, f"{head}: {len(tiles)} most confident of {len(wrong)} errors, n = {len(predicted)}"))
    return mosaic(rows, SIDE) if rows else None
