"""Explain predictions on photos: attention maps, and the pixels that support the predicted age and gender.

python -m launch.explain IMAGE… --workdir=runs/ran [--workdir=runs/resnet] [--out=explanations/ran+resnet] [--scores]

IMAGE is an image file or a folder of image files. The largest centred square of each is resized to the input size of
the net. Writes explanations.json, and for each net and image <net>/<image>.png, the overlays, and <net>/<image>.npz,
the maps as arrays. --scores measures how the predictions change when the pixels with the highest relevance are deleted
or inserted, compared with a random map and a centred blob.
"""

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for several nets.")
METHOD = flags.DEFINE_multi_string(
    "method", [], "grad_cam, integrated_gradients, lrp or lrp_composite; repeat for several. Default: all of a net."
)
HEAD = flags.DEFINE_enum("head", "both", ["age", "gender", "both"], "Which predictions to explain.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: explanations/<nets joined by +>.")
SCORES = flags.DEFINE_bool("scores", False, "Measure deletion and insertion for every map.")

EXTRA = "report"
TAKES_ARGUMENTS = True


def main(images: list[str]) -> None:
    app.check_checkpoint(CHECKPOINT)
    app.prepare_jax()
    from agegender_jax.run import explain  # imports jax

    explain.explain_photos(
        images,
        WORKDIR.value,
        methods=METHOD.value,
        heads=["age", "gender"] if HEAD.value == "both" else [HEAD.value],
        checkpoint=CHECKPOINT.value,
        out=OUT.value,
        scores=SCORES.value,
    )
