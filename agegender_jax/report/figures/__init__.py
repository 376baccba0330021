"""Figures as PNG: those of arXiv 2010.03791 and further ones."""

from collections.abc import Sequence
from typing import Any

from agegender_jax import metrics
from agegender_jax.labels import GENDERS
from agegender_jax.report.figure_data import Examples, Population
from agegender_jax.report.figures import calibration, curves, distributions, faces, groups, years
from agegender_jax.report.figures.attention import attention
from agegender_jax.report.figures.confusion import confusion
from agegender_jax.report.figures.style import png
from agegender_jax.report.runs import Run

__all__ = ["attention", "draw", "png"]


def draw(examples: Examples, people: Population, results: dict, runs: Sequence[Run]) -> dict[str, bytes]:
    """Return PNG bytes by file name; figures without content are left out.

    Args:
      examples: the evaluated images with the predictions of the last model.
      people: all images of their source.
      results: value of results.json.
      runs: of its members.
    """
    figures: dict[str, Any] = {}
    if any(run.rows for run in runs):
        figures["curves.png"] = curves.curves(runs)
    if len(people.gender):
        figures["ages.png"] = distributions.ages(people)
    if len(examples.gender):
        counts = metrics.confusion(examples.probs.age, examples.probs.gender, examples.age, examples.gender)
        figures |= {
            "grid.png": faces.grid(examples),
            "samples.png": faces.samples(examples),
            "mistakes.png": faces.mistakes(examples),
            "scores.png": distributions.scores(examples),
            "expected_age.png": years.expected_age(examples),
            "confusion_age.png": confusion(counts["age"], metrics.bucket_names(examples.age), f"Age, {examples.name}"),
            "confusion_gender.png": confusion(counts["gender"], GENDERS, f"Gender, {examples.name}"),
            "reliability.png": calibration.reliability(results["models"][-1]),
            "groups.png": groups.groups(results),
        }
    return {name: png(figure) for name, figure in figures.items() if figure is not None}
