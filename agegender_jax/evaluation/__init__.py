"""Scores of trained models: results.json and predictions.csv."""

from agegender_jax.evaluation.members import ENSEMBLE, Member, answers, bucket_years
from agegender_jax.evaluation.predictions import predictions
from agegender_jax.evaluation.results import details, results, rows

__all__ = ["ENSEMBLE", "Member", "answers", "bucket_years", "details", "predictions", "results", "rows"]
