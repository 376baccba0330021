"""Train a net, or resume the training that the same command began.

python -m launch.train --config=configs/ran.py [--workdir=runs/ran] [--config.data.source=PATH]

Writes config.json, run.json, splits.csv, bad_images.csv, metrics.jsonl, checkpoints/, TensorBoard events, and at the
end results.json, predictions.csv, figures/, report.html, calibration.json, answers.json and MODEL_CARD.md of the best
checkpoint on the test split.

All devices of the machine are used. On several machines, run the command on each with --coordinator, --num_processes
and --process_id, or through srun or mpirun without them (docs/devices.md).
"""

import sys

from absl import flags

from agegender_jax.cli import app, processes
from agegender_jax.run.host import determinism

CONFIG = app.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the default is runs/<config>[-<variant>].")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 can be reached.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes that train together.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "The number of this process, from 0.")
TIMEOUT = flags.DEFINE_integer("initialization_timeout", 300, "Seconds in which all processes must connect.", 1)

EXTRA = "train"


def main() -> None:
    config = app.config_of(CONFIG)
    workdir = WORKDIR.value or f"runs/{app.config_name(CONFIG)}"
    if config.deterministic:
        determinism.request()
    app.import_jax()
    processes.join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, TIMEOUT.value)
    app.prepare_jax()
    from agegender_jax.run import train  # imports jax

    train.fit(config, workdir, sys.argv)
