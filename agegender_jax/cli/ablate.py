"""Train variants of a config over several seeds, and compare each with the first, with intervals.

python -m launch.ablate --config=configs/quickstart.py:ran --vary=model.gender_to_age=probs,none --workdir=DIR

The base has the first value of each --vary; each further value is one variant, which differs from the base only in that
field. All are trained with each of --seeds, tested on the same images, and compared image by image and seed by seed.
Repeat the command to resume; with further --seeds it trains only those. --ensemble also compares the average of all
variants with each of them, for example with --vary=model.name=ran56,resnet18.

  gender input         --vary=model.gender_to_age=probs,none
  attention            --vary=model.learning=residual,none
  one task or two      --config.model.gender_to_age=none --vary=loss.age_weight=1,0 --vary=loss.gender_weight=1,0

Writes DIR/<field=value>/seed<k>/, each an ordinary run with its best checkpoint, and DIR/ablation.json.
"""

import sys

from absl import flags

from agegender_jax.cli import app
from agegender_jax.errors import ConfigError
from agegender_jax.run.host import determinism

CONFIG = app.define_config()
VARY = flags.DEFINE_multi_string("vary", [], "FIELD=a,b[,c], the base's value first; repeatable.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to train each variant with.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the ablation.")
ENSEMBLE = flags.DEFINE_bool("ensemble", False, "Also compare the average of all variants with each of them.")

EXTRA = "train"


def main() -> None:
    config = app.config_of(CONFIG)
    if not WORKDIR.value:
        raise ConfigError("--workdir is missing", "--workdir", "name a folder for the runs of this ablation")
    try:
        seeds = [int(text) for text in SEEDS.value]
    except ValueError:
        raise ConfigError("a seed is not a whole number", f"--seeds={','.join(SEEDS.value)}", "--seeds=0,1,2") from None
    if config.deterministic:
        determinism.request()
    app.prepare_jax()
    from agegender_jax.run.ablate import ablation  # imports jax

    ablation.ablate(config, VARY.value, seeds, WORKDIR.value, sys.argv, ENSEMBLE.value)
