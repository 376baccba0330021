"""Make aligned chips of labelled faces, which are a data source for training.

python -m launch.align --source=PATH [--out=DIR]

Finds the face in the middle of each picture of a folder, archive or FairFace CSV, and writes it turned upright and
scaled, as launch.predict does with the faces of photos. --out then works as --config.data.source, with the same labels.
faces.jsonl lists all pictures, those without a face too. The same command continues an interrupted one.
"""

from absl import flags

from agegender_jax.cli import app

SOURCE = flags.DEFINE_string("source", None, "Folder, archive or FairFace CSV, or several separated by commas.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: aligned/<name of the source>.")
SIZE = flags.DEFINE_integer("size", 112, "Side of the chips in pixels.", 16, 1024)
SCORE = flags.DEFINE_float("score", 0.7, "Least score of a face.", 0.01, 1.0)

EXTRA = "photos"
COMPUTES = False


def main() -> None:
    app.prepare_jax()
    from agegender_jax.run import align  # imports jax

    align.align(SOURCE.value, out=OUT.value, size=SIZE.value, score=SCORE.value)
