"""The pipelines of all commands, with their files, logs and signals."""
