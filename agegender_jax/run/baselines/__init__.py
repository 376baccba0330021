"""The baselines command: every system that the paper names, on one split."""
