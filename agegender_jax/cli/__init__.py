"""The commands, one file each, and what they share: flags, jax's setup, exit codes."""
