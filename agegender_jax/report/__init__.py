"""Presentation of results: figures, report.html, audit.html and the model card."""

import importlib

from agegender_jax.report.explanations import Explained, explanations, patches_figure
from agegender_jax.report.figure_data import Examples, Population
from agegender_jax.report.formatting import better_by, compared
from agegender_jax.report.model_card import card
from agegender_jax.report.page import is_figure, page
from agegender_jax.report.relevance import NetRelevance, relevance_figure, relevance_section
from agegender_jax.report.runs import Run, command_line

__all__ = [
    "Examples",
    "Explained",
    "NetRelevance",
    "Population",
    "Run",
    "attention",
    "better_by",
    "card",
    "command_line",
    "compared",
    "draw",
    "explanation_grid",
    "explanations",
    "is_figure",
    "overlays",
    "page",
    "patches_figure",
    "patches_grid",
    "png",
    "relevance_figure",
    "relevance_grid",
    "relevance_section",
]
_LAZY = {  # name: module that needs matplotlib
    "attention": "figures",
    "draw": "figures",
    "explanation_grid": "overlay",
    "overlays": "overlay",
    "patches_grid": "overlay",
    "png": "figures",
    "relevance_grid": "figures.relevance",
}


def __getattr__(name: str):
    """Import what needs matplotlib on first use, because that takes half a second."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
