"""Evaluate trained nets on the same images, each alone and all as an ensemble.

python -m launch.evaluate --workdir=runs/ran --workdir=runs/resnet [--source=PATH] [--split=test] [--out=reports/both]

Writes results.json, predictions.csv, figures/ (none with --nofigures) and report.html. --explain=N adds attention maps
and attributions for N evenly spaced images, with scores of their faithfulness; it takes minutes.
"""

import sys

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for several members.")
SOURCE = flags.DEFINE_string("source", None, "Source to evaluate on. Default: that of the members.")
SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["train", "val", "test", "all"],
    "Images to score. Default: test; all of a source new to the members.",
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: reports/<members joined by +>.")
ALLOW_LEAK = flags.DEFINE_bool("allow_leak", False, "Score images even if a member was trained on them.")
EXCLUDE_LEAKED = flags.DEFINE_bool("exclude_leaked", False, "Leave out images that a member was trained on.")
ALLOW_CONTROL = flags.DEFINE_bool("allow_control", False, "Score runs fed the true or a shuffled gender.")
VIEWS = flags.DEFINE_enum(
    "views", None, ["none", "flip", "flip_shift"], "Average the predictions of mirrored and shifted copies of an image."
)
CALIBRATE = flags.DEFINE_bool("calibrate", True, "Apply the temperatures that training fitted on val.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw figures, which takes seconds.")
EXPLAIN = flags.DEFINE_integer("explain", 0, "Number of images to explain.", 0)

EXTRA = "train"


def main() -> None:
    app.check_checkpoint(CHECKPOINT)
    app.prepare_jax()
    from agegender_jax.run import evaluate  # imports jax

    evaluate.evaluate(
        WORKDIR.value,
        source=SOURCE.value,
        split=SPLIT.value,
        checkpoint=CHECKPOINT.value,
        out=OUT.value,
        allow_leak=ALLOW_LEAK.value,
        exclude_leaked=EXCLUDE_LEAKED.value,
        allow_control=ALLOW_CONTROL.value,
        calibrate=CALIBRATE.value,
        views=VIEWS.value,
        command=sys.argv,
        draw=FIGURES.value,
        explain=EXPLAIN.value,
    )
