"""Make aligned chips of faces: of labelled pictures for training, or of any pictures.

agegender align PATH… --out=DIR
agegender align --source=PATH [--out=DIR]

PATH is a picture, a folder (read recursively), a glob, an archive, or - for a list on stdin. Every face becomes a chip
in --out, turned upright and scaled as in launch.predict. faces.csv gives the picture, the box and the score of each,
and lists the pictures that have no face or cannot be read.

--source is a labelled folder, archive or FairFace CSV: the face in the middle of each picture becomes a chip, and --out
can then be used as --config.data.source, with the same labels. faces.jsonl lists all pictures, including those without
a face.

Repeat the command to continue after an interruption.
"""

from absl import flags

from agegender_jax.cli import app

SOURCE = flags.DEFINE_string("source", None, "Labelled folder, archive or FairFace CSV, or several with commas.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: aligned/<name of the source>; aligned/faces for PATH.")
SIZE = flags.DEFINE_integer("size", 112, "Side of the chips in pixels.", 16, 1024)
SCORE = flags.DEFINE_float("score", 0.7, "Minimum detection score of a face.", 0.01, 1.0)

EXTRA = "photos"
COMPUTES = False
TAKES_ARGUMENTS = True


def main(paths: list[str]) -> None:
    from agegender_jax.errors import ConfigError

    if paths and SOURCE.value is not None:
        raise ConfigError(
            f"both --source and pictures are named: {paths[0]!r}", "command line", "name either, in two calls"
        )
    app.prepare_jax()
    from agegender_jax.run import align  # these import jax
    from agegender_jax.run.pictures import align_pictures

    if paths:
        align_pictures.align(paths, out=OUT.value or "aligned/faces", size=SIZE.value, score=SCORE.value)
    else:
        align.align(SOURCE.value, out=OUT.value, size=SIZE.value, score=SCORE.value)
