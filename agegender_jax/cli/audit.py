"""Examine a source: bad files, duplicates, contradicting labels, leakage, and the accuracy that its labels allow.

python -m launch.audit --source=PATH [--out=DIR] [--workdir=runs/ran]

Writes audit.json (fields: docs/audit.md), audit.html, which contains pictures of the source, exclude.csv, a list of
copies with contradicting labels for --config.data.exclude, and splits.csv, the split by content with the groups of
near-duplicates. Findings are not errors: the exit code is 0.
"""

import sys

from absl import flags

from agegender_jax.cli import app

SOURCE = flags.DEFINE_string("source", None, "Folder, archive or FairFace CSV, or several separated by commas.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: audits/<name of the source>.")
WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "Run whose splits are checked and compared; repeat for several runs."
)
SPLIT_SEED = flags.DEFINE_integer("split_seed", 0, "data.split_seed of the split to check.", 0, 2**32 - 1)
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Folder of prepared data. Default: the user's cache folder.")

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
