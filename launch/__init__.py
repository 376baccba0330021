"""Programs: `python -m launch.<name>`, from the repository root."""
