"""Fit the intervals and thresholds of predictions for photos on the val split of trained nets.

python -m launch.calibrate --workdir=runs/ran --workdir=runs/resnet [--weights_out=DIR --name=default --about=FILE.json]

Training does this for its own net. For an ensemble, run this command once: it writes answers.json to the first workdir.
--weights_out also writes the nets as weights with cards, for use with agegender predict --weights_dir=DIR.
"""

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for an ensemble.")
SOURCE = flags.DEFINE_string("source", None, "The images of the runs, if they have been moved.")
WEIGHTS_OUT = flags.DEFINE_string("weights_out", None, "Folder for weights and cards.")
NAME = flags.DEFINE_string("name", "default", "Name of the ensemble's card, or of the files of one net.")
ABOUT = flags.DEFINE_string("about", None, "JSON file with further fields of the cards: licence, scores.")

EXTRA = "train"


def main() -> None:
    app.prepare_jax()
    from agegender_jax.run import calibrate  # imports jax

    calibrate.calibrate(WORKDIR.value, source=SOURCE.value, out=WEIGHTS_OUT.value, name=NAME.value, about=ABOUT.value)
