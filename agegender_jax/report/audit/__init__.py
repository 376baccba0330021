"""Reports of an audit: audit.json, audit.html with contact sheets and figures, and a summary."""

from agegender_jax.report.audit.figures import draw
from agegender_jax.report.audit.findings import findings
from agegender_jax.report.audit.page import page
from agegender_jax.report.audit.summary import summary

__all__ = ["draw", "findings", "page", "summary"]
