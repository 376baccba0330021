"""Paired comparison of training variants over seeds."""
