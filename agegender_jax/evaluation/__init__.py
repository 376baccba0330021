"""Scores of trained models: results.json and predictions.csv."""

from agegender_jax.evaluation.members import ENSEMBLE, Member, bucket_years, ensemble_probs
from agegender_jax.evaluation.predictions import predictions
from agegender_jax.evaluation.results import details, results, rows

__all__ = ["ENSEMBLE", "Member", "bucket_years", "details", "ensemble_probs", "predictions", "results", "rows"]
