"""What an evaluation leaves for people and scripts: results.json, predictions.csv, figures and report.html."""

from agegender_jax.report.figures import Curve, draw
from agegender_jax.report.members import Member, answers
from agegender_jax.report.page import page
from agegender_jax.report.predictions import predictions
from agegender_jax.report.results import details, results, rows

__all__ = ["Curve", "Member", "answers", "details", "draw", "page", "predictions", "results", "rows"]
