"""Predict the age and gender of faces in photos on a local web page.

agegender demo [--workdir=RUN …] [--weights=NAME] [--method=grad_cam] [--port=7860]

Choose a photo, or take one with the camera. The page shows boxes, ages with intervals, genders and warnings, and the
attributions of each net with the soft masks of those that have attention, such as the shipped Attention-56. It works
offline and stores no pictures. Only this machine can open it, unless --host says otherwise. Press Ctrl-C to stop it.
Age means apparent age, and gender means perceived gender; either may be wrong for any individual.
"""

from absl import flags

from agegender_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for an ensemble. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Shipped weights; see agegender weights.")
WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Folder of --weights, written by launch.calibrate or export.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step of --workdir.")
METHOD = flags.DEFINE_multi_enum(
    "method",
    ["grad_cam"],
    ["grad_cam", "integrated_gradients", "lrp", "lrp_composite"],
    "Attribution method; repeat for several.",
)
SCORE = flags.DEFINE_float("score", 0.7, "Minimum detection score of a face.", 0.01, 1.0)
COVERAGE = flags.DEFINE_float("coverage", 0.9, "Share of age intervals that contain the age.", 0.5, 0.99)
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 opens the page to the whole network.")
PORT = flags.DEFINE_integer("port", 7860, "Port to listen on.", 1, 65535)
MAX_MB = flags.DEFINE_integer("max_mb", 20, "Largest photo file, in MB.", 1, 1000)

EXTRA = "demo"


def main() -> None:
    app.check_checkpoint(CHECKPOINT)
    app.prepare_jax()
    from agegender_jax.run import demo  # imports jax

    demo.demo(
        workdirs=WORKDIR.value,
        weights=WEIGHTS.value,
        weights_dir=WEIGHTS_DIR.value,
        checkpoint=CHECKPOINT.value,
        methods=METHOD.value,
        score=SCORE.value,
        coverage=COVERAGE.value,
        host=HOST.value,
        port=PORT.value,
        max_mb=MAX_MB.value,
    )
