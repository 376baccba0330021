"""Figures of an audit as PNG: labels of the source, and differences between copies of a picture."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from agegender_jax.data.near_duplicates import COPY_LIMIT
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.labels import GENDERS, RACES
from agegender_jax.report.figures import style


def draw(faces: Prepared, audit: dict) -> dict[str, bytes]:
    """Return PNG bytes by file name: labels.png, and copies.png if there are duplicates."""
    figures = {"labels.png": style.png(_labels(faces, audit["labels"]))}
    if audit["exact"]["pairs"] or audit["near"]["pairs"]:
        figures["copies.png"] = style.png(_copies(audit))
    return figures


def _labels(faces: Prepared, labels: dict) -> Figure:
    """Return histograms of ages in years, or age groups if years are unknown, and of races, stacked by gender."""
    figure = style.new(11, 3.6)
    by_age, by_race = figure.subplots(1, 2, width_ratios=(2.2, 1))
    if known := (faces.age_years >= 0).sum():
        edges = np.arange(0, faces.age_years.max() + 2) - 0.5
        counts = [_histogram(faces.age_years[faces.gender == g], edges) for g in range(len(GENDERS))]
        _stack(by_age, np.arange(len(edges) - 1), counts, width=1.0)
        by_age.set(xlabel="age (years)", ylabel="images per year of age", title=f"Ages, n = {known:,}")
        by_age.xaxis.set_major_locator(MultipleLocator(10))
    else:
        names = list(labels["age"])
        counts = [_cells(labels, "age", names, gender) for gender in GENDERS]
        _stack(by_age, np.arange(len(names)), counts)
        by_age.set_xticks(range(len(names)), names)
        by_age.set(xlabel="age group (years)", ylabel="images", title=f"Ages, n = {len(faces.file):,}")
    _stack(by_race, np.arange(len(RACES)), [_cells(labels, "race", RACES, gender) for gender in GENDERS])
    by_race.set_xticks(range(len(RACES)), RACES)
    by_race.set(ylabel="images", title="Labelled race")
    by_age.legend(frameon=False)
    return figure


def _copies(audit: dict) -> Figure:
    """Return histograms of age differences of equal pictures and of hash distances of near-duplicates."""
    figure = style.new(11, 3.2)
    years, bits = figure.subplots(1, 2)
    counts = audit["exact"]["years_apart_counts"]
    _bars(years, counts)
    years.set(xlabel="difference of the two ages (years)", ylabel="pairs")
    years.set_title(f"Equal pictures, {sum(counts.values()):,} pairs with years")
    counts = audit["near"]["distances"]
    _bars(bits, counts)
    bits.axvline(COPY_LIMIT + 0.5, color=style.GREY, linestyle="--", linewidth=1)
    bits.text(
        COPY_LIMIT + 0.8, 0.97, "other people more likely →", transform=bits.get_xaxis_transform(), va="top", fontsize=8
    )
    bits.set(xlabel="distance of difference hashes (of 256 bits)", ylabel="pairs")
    bits.set_title(f"Near-duplicates, {sum(counts.values()):,} pairs")
    return figure


def _bars(axis, counts: dict[str, int]) -> None:
    axis.bar([int(value) for value in counts], list(counts.values()), color=style.GREEN)
    for locator in (axis.xaxis, axis.yaxis):
        locator.set_major_locator(MaxNLocator(integer=True))
    style.grid(axis)


def _stack(axis, positions: np.ndarray, counts: list[np.ndarray], width: float = 0.8) -> None:
    below = np.zeros(len(positions), int)
    for name, colour, count in zip(GENDERS, style.OF_GENDER, counts, strict=True):
        axis.bar(positions, count, width, bottom=below, color=colour, label=f"{name} (n = {count.sum():,})")
        below = below + count
    style.grid(axis)


def _histogram(years: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(years[years >= 0], edges)[0]


def _cells(labels: dict, by: str, names, gender: str) -> np.ndarray:
    return np.array([sum(c["n"] for c in labels["cells"] if c[by] == name and c["gender"] == gender) for name in names])
