"""Explain predictions on photos: attention maps, and the pixels that support the predicted age and gender.

agegender explain IMAGE… [--workdir=runs/ran …] [--out=explanations/ran] [--scores]

IMAGE is an image file or a folder of image files. Every face is found and aligned as agegender predict does; with
--detector=none, the default for --workdir, each image is one face, and its largest centred square is resized to the
input size of the net. Writes explanations.json and, for each net and face, <net>/<image>.png with overlays and
<net>/<image>.npz with the maps as arrays. --scores measures how the predictions change when the pixels with the highest
relevance are deleted or inserted, compared with a random map and a centred blob.
"""

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for several nets. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Shipped weights; see agegender weights.")
WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Folder of --weights, written by launch.calibrate or export.")
DETECTOR = flags.DEFINE_enum(
    "detector", None, ["yunet", "none"], "yunet: every face. none: each image is one face. Default: none for --workdir."
)
SCORE = flags.DEFINE_float("score", 0.7, "Minimum detection score of a face.", 0.01, 1.0)
METHOD = flags.DEFINE_multi_string(
    "method", [], "grad_cam, integrated_gradients, lrp or lrp_composite; repeatable. Default: all of a net."
)
HEAD = flags.DEFINE_enum("head", "both", ["age", "gender", "both"], "Which predictions to explain.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step of --workdir.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: explanations/<nets joined by +>.")
SCORES = flags.DEFINE_bool("scores", False, "Measure deletion and insertion for every map.")

EXTRA = "report"
TAKES_ARGUMENTS = True


def main(images: list[str]) -> None:
    app.check_checkpoint(CHECKPOINT)
    if not WORKDIR.value or DETECTOR.value == "yunet":
        from agegender_jax import extras

        extras.check("photos")
    app.prepare_jax()
    from agegender_jax.run import explain  # imports jax

    explain.explain_photos(
        images,
        WORKDIR.value,
        weights=WEIGHTS.value,
        weights_dir=WEIGHTS_DIR.value,
        detector=DETECTOR.value,
        score=SCORE.value,
        methods=METHOD.value,
        heads=["age", "gender"] if HEAD.value == "both" else [HEAD.value],
        checkpoint=CHECKPOINT.value,
        out=OUT.value,
        scores=SCORES.value,
    )
