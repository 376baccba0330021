"""Scores trained nets, each alone and all as an ensemble, on the same images.

python -m launch.evaluate --workdir=runs/ran --workdir=runs/resnet [--source=PATH] [--split=test] [--out=reports/both]

Writes results.json, predictions.csv, figures/ and report.html.
"""

import sys

from absl import flags

from agegender_jax.errors import ConfigError
from launch import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; once for each member.")
SOURCE = flags.DEFINE_string("source", None, "Images to score; the members' own source if not given.")
SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test", "all"], "Which of the images.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step's number.")
OUT = flags.DEFINE_string("out", None, "Where to write; reports/<members joined by +> if not given.")
ALLOW_LEAK = flags.DEFINE_bool("allow_leak", False, "Score images even if a member was trained on them.")
ALLOW_CONTROL = flags.DEFINE_bool("allow_control", False, "Score runs fed the true or a shuffled gender.")
CALIBRATE = flags.DEFINE_bool("calibrate", True, "Apply the temperatures that training fitted on val.")


def main() -> None:
    which = CHECKPOINT.value
    if which not in ("best", "latest") and not which.isdecimal():
        raise ConfigError(f"unknown checkpoint {which!r}", "--checkpoint", "use best, latest or a step's number")
    from agegender_jax.run import compiled, evaluator  # imports jax

    compiled.keep()
    evaluator.evaluate(
        WORKDIR.value,
        source=SOURCE.value,
        split=SPLIT.value,
        checkpoint=which,
        out=OUT.value,
        allow_leak=ALLOW_LEAK.value,
        allow_control=ALLOW_CONTROL.value,
        calibrate=CALIBRATE.value,
        command=sys.argv,
    )


if __name__ == "__main__":
    app.run(main, __doc__)
