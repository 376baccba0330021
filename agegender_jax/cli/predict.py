"""Predict the age and gender of every face in photos, offline.

agegender predict PATH… [--out=DIR] [--workdir=RUN …] [--annotate] [--gallery] [--over=18,25 --max_error=0.01]

PATH is a picture, a folder (read recursively), a glob, an archive (.tar, .tar.gz, .tgz, .zip), a Parquet file of paths
or bytes, or - for a list on stdin. Writes predictions.jsonl and predictions.csv with one row per face, or one row that
says why a picture has none; --engine=ray writes predictions/part-*.parquet instead of the .jsonl. A bad picture never
stops the others. Repeat the command to continue after an interruption. docs/predict.md describes the fields. Age means
apparent age, and gender means perceived gender; either may be wrong for any individual.
"""

from absl import flags

from agegender_jax.cli import app

OUT = flags.DEFINE_string("out", "answers", "Output folder.")
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for an ensemble. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Shipped weights; see agegender weights.")
WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Folder of --weights, written by launch.calibrate or export.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step of --workdir.")
DETECTOR = flags.DEFINE_enum("detector", "yunet", ["yunet", "none"], "none: each picture is one face, already cropped.")
BOXES = flags.DEFINE_string("boxes", None, 'JSON file with known boxes: {"photo.jpg": [[x, y, width, height]]}.')
SCORE = flags.DEFINE_float("score", 0.7, "Minimum detection score of a face.", 0.01, 1.0)
COVERAGE = flags.DEFINE_float("coverage", 0.9, "Share of age intervals that contain the age.", 0.5, 0.99)
OVER = flags.DEFINE_list("over", [], "Ages N: decide whether the person is at least N years old.")
MAX_ERROR = flags.DEFINE_float("max_error", 0.01, "Largest share of wrong decisions for --over.", 0.001, 0.5)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Faces per batch.", 1)
VIEWS = flags.DEFINE_enum("views", None, ["none", "flip", "flip_shift"], "Averaged for each face. Default: the nets'.")
ANNOTATE = flags.DEFINE_bool("annotate", False, "Write copies of the pictures with boxes and predictions.")
GALLERY = flags.DEFINE_bool("gallery", False, "Write gallery.html, a page of all faces, the least confident first.")
STRICT = flags.DEFINE_bool("strict", False, "End with exit code 3 if a picture could not be read.")
ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "ray: many processes or machines, rows as Parquet.")
RAY_ADDRESS = flags.DEFINE_string(
    "ray_address", None, "HOST:PORT of a Ray cluster. Default: processes of this machine."
)
RAY_WORKERS = flags.DEFINE_integer("ray_workers", 0, "Processes with the nets. 0: one for each GPU or machine.", 0)

EXTRA = "photos"
TAKES_ARGUMENTS = True


def main(paths: list[str]) -> None:
    app.check_checkpoint(CHECKPOINT)
    over = ages(OVER.value)
    check_engine()
    app.prepare_jax(computes=ENGINE.value == "local")
    from agegender_jax.run import predict  # imports jax
    from agegender_jax.run.cluster import Cluster

    predict.predict(
        paths,
        workdirs=WORKDIR.value,
        out=OUT.value,
        weights=WEIGHTS.value,
        weights_dir=WEIGHTS_DIR.value,
        checkpoint=CHECKPOINT.value,
        detector=DETECTOR.value,
        boxes=BOXES.value,
        score=SCORE.value,
        coverage=COVERAGE.value,
        over=over,
        max_error=MAX_ERROR.value,
        batch_size=BATCH_SIZE.value,
        views=VIEWS.value,
        annotate=ANNOTATE.value,
        gallery=GALLERY.value,
        strict=STRICT.value,
        cluster=Cluster(RAY_ADDRESS.value, RAY_WORKERS.value) if ENGINE.value == "ray" else None,
    )


def check_engine() -> None:
    """Raise ConfigError if the extra of the ray engine is missing, or its flags are used with another engine."""
    from agegender_jax import extras
    from agegender_jax.errors import ConfigError

    if ENGINE.value == "ray":
        extras.check("ray")
    elif RAY_ADDRESS.value is not None or RAY_WORKERS.value:
        flag = "--ray_workers" if RAY_ADDRESS.value is None else "--ray_address"
        raise ConfigError(f"{flag} needs the ray engine", flag, "add --engine=ray, or leave it out")


def ages(values: list[str]) -> list[int]:
    """Return the ages of --over, each once, in ascending order."""
    from agegender_jax.errors import ConfigError

    if wrong := [value for value in values if not value.strip().isdecimal() or len(value) > 9]:
        raise ConfigError(f"not an age: {wrong[0][:20]!r}", "--over", "for example --over=18,25")
    return sorted({int(value) for value in values})
