"""Shows what trained nets looked at: attention maps, and which pixels spoke for their age and gender answers.

python -m launch.explain IMAGE… --workdir=runs/ran [--workdir=runs/resnet] [--out=explanations/ran+resnet] [--scores]

IMAGE is an image file or a folder of them; of each the largest centred square is taken and scaled to the size that
the net was trained at. Writes explanations.json, and for each net <net>/<image>.png, the overlays, and
<net>/<image>.npz, the maps as arrays. --scores measures what happens to the answers when the pixels that a map names
are taken away or given alone, beside a random map and a blob in the centre.
"""

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; once for each net.")
METHOD = flags.DEFINE_multi_string("method", [], "grad_cam, integrated_gradients or lrp; all if not given.")
HEAD = flags.DEFINE_enum("head", "both", ["age", "gender", "both"], "Which decisions.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step's number.")
OUT = flags.DEFINE_string("out", None, "Where to write; explanations/<nets joined by +> if not given.")
SCORES = flags.DEFINE_bool("scores", False, "Measure deletion and insertion of every map.")

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
