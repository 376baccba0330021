"""A run's folder and the files in it."""

from agegender_jax.run.workdir.folder import Workdir, make_out, write_csv, write_json

__all__ = ["Workdir", "make_out", "write_csv", "write_json"]
