"""What an evaluation leaves for people and scripts: results.json, predictions.csv, figures, report.html, the card."""

from agegender_jax.report.card import card
from agegender_jax.report.explanations import Explained, explanations
from agegender_jax.report.figures import Examples, Population, attention, draw, png
from agegender_jax.report.members import Member, answers, bucket_years
from agegender_jax.report.overlay import explanation_grid, overlays
from agegender_jax.report.page import page
from agegender_jax.report.predictions import predictions
from agegender_jax.report.results import details, results, rows
from agegender_jax.report.runs import Run, command_line
from agegender_jax.report.words import better_by, compared

__all__ = [
    "Examples",
    "Explained",
    "Member",
    "Population",
    "Run",
    "answers",
    "attention",
    "better_by",
    "bucket_years",
    "card",
    "command_line",
    "compared",
    "details",
    "draw",
    "explanation_grid",
    "explanations",
    "overlays",
    "page",
    "png",
    "predictions",
    "results",
    "rows",
]
