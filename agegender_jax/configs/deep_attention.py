"""Feed-forward attention over patches, after Rodriguez et al. 2017 ([19] of arXiv 2010.03791).

agegender train --config=deep_attention --config.data.source=crop_part1.tar

One variant after a colon: uniform (all patches count equally) or low (no patches), both controls, or paper (both nets
with VGG-16's layers, at 224 of 448 pixels, with patches of 160; needs a GPU, not trained here).

Only the idea is known: a net at low resolution chooses, end to end, where a second net looks at full resolution. Later
papers say that both are VGG-16; here both nets are small, and grid, patches and rates are our choices
(agegender_jax/models/deep_attention.py). A prototype reached age and gender accuracies of 0.451 and 0.774 after two
epochs of `crop_part1` (test), 0.460 and 0.753 with uniform, 0.455 and 0.771 with low: no difference. An epoch took 171
s of one core, 20 s with low.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 20})
    config.model.name = "deep_attention"
    config.data.image_size = 96
    config.optimizer.lr = 0.001

    def paper(c: config_lib.ConfigDict) -> None:
        c.model.update(trunk="vgg16", patch=160)
        c.data.image_size = 448
        c.batch_size = 16

    variants = {
        "paper": paper,
        "uniform": lambda c: c.model.update(patches="uniform"),
        "low": lambda c: c.model.update(patches="none"),
    }
    return config_lib.apply_variants(config, variant, variants)
