"""What an evaluation leaves for people and scripts: results.json, predictions.csv, figures, report.html, the card."""

import importlib

from agegender_jax.report.card import card
from agegender_jax.report.examples import Examples, Population
from agegender_jax.report.explanations import Explained, explanations
from agegender_jax.report.members import Member, answers, bucket_years
from agegender_jax.report.page import is_figure, page
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
    "is_figure",
    "overlays",
    "page",
    "png",
    "predictions",
    "results",
    "rows",
]
_DRAWING = {  # name: its module
    "attention": "figures",
    "draw": "figures",
    "explanation_grid": "overlay",
    "overlays": "overlay",
    "png": "figures",
}


def __getattr__(name: str):
    """What draws is imported when it is asked for: matplotlib takes half a second, at each start of a program."""
    if name not in _DRAWING:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_DRAWING[name]}"), name)
