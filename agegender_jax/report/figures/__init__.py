"""Figures as PNG: those of arXiv 2010.03791, and what a reviewer would ask for besides."""

from collections.abc import Sequence

from agegender_jax import metrics
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.report.examples import Examples, Population
from agegender_jax.report.figures import calibration, curves, distributions, faces, groups, years
from agegender_jax.report.figures.attention import attention
from agegender_jax.report.figures.confusion import confusion
from agegender_jax.report.figures.style import png
from agegender_jax.report.runs import Run

__all__ = ["attention", "draw", "png"]


def draw(examples: Examples, people: Population, found: dict, runs: Sequence[Run]) -> dict[str, bytes]:
    """PNG bytes by file name; a figure that has nothing to show is left out.

    Args:
      examples: the evaluated images with the last model's answers; people: all images of their source.
      found: the results dict. runs: of its members.
    """
    drawn = {}
    if any(run.rows for run in runs):
        drawn["curves.png"] = curves.curves(runs)
    if len(people.gender):
        drawn["ages.png"] = distributions.ages(people)
    if len(examples.gender):
        counts = metrics.confusion(examples.probs.age, examples.probs.gender, examples.age, examples.gender)
        drawn |= {
            "grid.png": faces.grid(examples),
            "samples.png": faces.samples(examples),
            "mistakes.png": faces.mistakes(examples),
            "scores.png": distributions.scores(examples),
            "expected_age.png": years.expected_age(examples),
            "confusion_age.png": confusion(counts["age"], AGE_BUCKETS, f"Age, {examples.name}"),
            "confusion_gender.png": confusion(counts["gender"], GENDERS, f"Gender, {examples.name}"),
            "reliability.png": calibration.reliability(found["models"][-1]),
            "groups.png": groups.groups(found),
        }
    return {name: png(figure) for name, figure in drawn.items() if figure is not None}
