"""What an evaluation leaves for people and scripts: results.json, predictions.csv, figures and report.html."""

from agegender_jax.report.explanations import Explained, explanations
from agegender_jax.report.figures import Curve, draw
from agegender_jax.report.overlays import explanation_grid, overlays
from agegender_jax.report.page import page
from agegender_jax.report.predictions import predictions
from agegender_jax.report.results import Member, answers, results, rows

__all__ = [
    "Curve",
    "Explained",
    "Member",
    "answers",
    "draw",
    "explanation_grid",
    "explanations",
    "overlays",
    "page",
    "predictions",
    "results",
    "rows",
]
