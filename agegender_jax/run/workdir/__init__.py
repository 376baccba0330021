"""The folder of a run, the files in it, and folders for other results."""

from agegender_jax.run.workdir.folder import Workdir, csv_text, write_csv, write_json
from agegender_jax.run.workdir.out_folder import (
    check_replaces,
    check_unchanged,
    check_unused,
    hold,
    keep_settings,
    make_out,
)

__all__ = [
    "Workdir",
    "check_replaces",
    "check_unchanged",
    "check_unused",
    "csv_text",
    "hold",
    "keep_settings",
    "make_out",
    "write_csv",
    "write_json",
]
