"""Looks a source through: bad files, duplicates, contradicting labels, leakage, and how well the labels can be met.

python -m launch.audit --source=PATH [--out=DIR] [--workdir=runs/ran]

Writes audit.json (its fields: docs/audit.md), audit.html, which shows pictures of the source, and exclude.csv, copies
whose labels contradict each other, for --config.data.exclude. What is found is no error: the exit code is 0.
"""

import sys

from absl import flags

from agegender_jax.cli import app

SOURCE = flags.DEFINE_string("source", None, "Folder, archive, FairFace CSV, or several with commas.")
OUT = flags.DEFINE_string("out", None, "Where to write; audits/<name of the source> if not given.")
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Run whose split is checked and compared; once for each.")
SPLIT_SEED = flags.DEFINE_integer("split_seed", 0, "data.split_seed of the split that is checked.", 0, 2**32 - 1)
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Of prepared data; the user's cache folder if not given.")

EXTRA = "train"
COMPUTES = False


def main() -> None:
    app.prepare_jax()
    from agegender_jax.run import audit  # imports jax

    audit.inspect(
        SOURCE.value,
        out=OUT.value,
        workdirs=WORKDIR.value,
        split_seed=SPLIT_SEED.value,
        cache_dir=CACHE_DIR.value,
        command=["python", "-m", "launch.audit", *sys.argv[1:]],
    )
