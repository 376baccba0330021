"""Scores trained nets, each alone and all as an ensemble, on the same images.

python -m launch.evaluate --workdir=runs/ran --workdir=runs/resnet [--source=PATH] [--split=test] [--out=reports/both]

Writes results.json, predictions.csv, figures/ and report.html.
"""

from absl import flags

from launch import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; once for each member.")
SOURCE = flags.DEFINE_string("source", None, "Images to score; the members' own source if not given.")
SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test", "all"], "Which of the images.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step.")
OUT = flags.DEFINE_string("out", None, "Where to write; reports/<members joined by +> if not given.")
ALLOW_LEAK = flags.DEFINE_bool("allow_leak", False, "Score images even if a member was trained on them.")


def main() -> None:
    from agegender_jax.run import evaluator  # imports jax

    evaluator.evaluate(
        WORKDIR.value,
        source=SOURCE.value,
        split=SPLIT.value,
        checkpoint=CHECKPOINT.value,
        out=OUT.value,
        allow_leak=ALLOW_LEAK.value,
    )


if __name__ == "__main__":
    app.run(main, __doc__)
