"""Trains a net, or goes on where the same command stopped.

python -m launch.train --config=configs/ran.py [--workdir=runs/ran] [--config.data.source=PATH]

Writes config.json, run.json, splits.csv, bad_images.csv, metrics.jsonl, checkpoints/, TensorBoard events, and at the
end results.json, predictions.csv, figures/ and report.html of the best checkpoint on the test split.
"""

import sys

from absl import flags

from launch import app

CONFIG = app.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config>[-<variant>] if not given.")


def main() -> None:
    config = app.config_of(CONFIG)
    workdir = WORKDIR.value or f"runs/{app.config_name(CONFIG)}"
    from agegender_jax.run import compiled, trainer  # imports jax

    compiled.keep()
    trainer.fit(config, workdir, sys.argv)


if __name__ == "__main__":
    app.run(main, __doc__)
