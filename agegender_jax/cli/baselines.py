"""Train or fit every system that the paper names on one split, and compare all of them with ResNet-18.

python -m launch.baselines --config=configs/baselines.py --config.data.source=crop_part1.tar --workdir=runs/baselines

The config has the common fields; agegender_jax/run/baselines/systems.py has what each system changes. Repeat the
command to resume; finished systems are skipped. --only=region_sift_lda,local_dnn trains only those, the systems that
they start from, and ResNet-18. --against=runs/best also compares every row with a finished run of the same split.

Writes DIR/<system>/, each an ordinary run, DIR/baselines.json and DIR/baselines.md.
"""

import sys

from absl import flags

from agegender_jax.cli import app
from agegender_jax.errors import ConfigError
from agegender_jax.run.host import determinism

CONFIG = app.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.")
ONLY = flags.DEFINE_list("only", [], "Names of systems, comma-separated; empty for all.")
AGAINST = flags.DEFINE_multi_string(
    "against",
    [],
    "Folder of a finished run of the same source and split to compare every row with; repeat for several.",
)

EXTRA = "train"


def main() -> None:
    config = app.config_of(CONFIG)
    if not WORKDIR.value:
        raise ConfigError("--workdir is missing", "--workdir", "name a folder for the runs of all systems")
    if config.deterministic:
        determinism.request()
    app.prepare_jax()
    from agegender_jax.run.baselines import command  # imports jax

    command.baselines(config, WORKDIR.value, ONLY.value, sys.argv, AGAINST.value)
