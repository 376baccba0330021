"""Write trained nets to files that other programs load.

agegender export --to=onnx [--to=stablehlo] [--to=safetensors] [--workdir=runs/ran …]

The exported programs take images and return probabilities: they include preprocessing, temperatures and the average
over several nets. A program of ten lines, written next to each file, loads it again and compares it with the nets on 64
synthetic faces. Without --workdir, the shipped weights are exported.
"""

from absl import flags

from agegender_jax import extras
from agegender_jax.cli import app

TO = flags.DEFINE_multi_enum("to", [], ["onnx", "stablehlo", "safetensors"], "Format; repeat for several.")
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a run; repeat for an ensemble. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Shipped weights; see agegender weights.")
WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Folder of --weights, written by launch.calibrate or export.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step.")
PLATFORMS = flags.DEFINE_list("platforms", ["cpu", "cuda"], "For StableHLO: some of cpu, cuda, rocm, tpu.")
OUT = flags.DEFINE_string("out", None, "Output folder. Default: exports/<nets joined by +>.")


def main() -> None:
    app.check_checkpoint(CHECKPOINT)
    for kind in TO.value or ["safetensors"]:
        extras.check("photos" if kind == "safetensors" else kind)
    app.prepare_jax()
    from agegender_jax.run import export  # imports jax

    export.export(
        workdirs=WORKDIR.value,
        weights_name=WEIGHTS.value,
        weights_dir=WEIGHTS_DIR.value,
        to=TO.value,
        platforms=PLATFORMS.value,
        checkpoint=CHECKPOINT.value,
        out=OUT.value,
    )
