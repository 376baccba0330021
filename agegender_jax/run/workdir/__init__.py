"""The folder of a run, the files in it, and folders for other results."""

from agegender_jax.run.workdir.folder import Workdir, write_csv, write_json
from agegender_jax.run.workdir.out_folder import check_replaces, hold, keep_settings, make_out

__all__ = ["Workdir", "check_replaces", "hold", "keep_settings", "make_out", "write_csv", "write_json"]
