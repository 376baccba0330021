"""ResNet on UTKFace faces with the paper's batch size, epochs and peak rate.

agegender train --config=resnet --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: 18, 34, 50 (depth), paper (constant rate, no warm-up, no clipping).

The defaults, 200 pixels and width 1, need a GPU and have not been measured. With version 0.1.0, whose splits were
others, on two CPU cores (AMD EPYC, float32, jax 0.10.2), `--config.model.width=0.5 --config.data.image_size=96
--config.num_epochs=50 --config.loss.label_smoothing=0.1 --config.optimizer.weight_decay=0.02` took about an hour on a
shared machine and reached an age accuracy of 0.582, a gender accuracy of 0.872 and an AABD of 0.558 on the test split
of `crop_part1` (780 images, seed 0). docs/accuracy.md has the intervals.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.model.name = "resnet18"
    depths = {d: lambda c, d=d: c.model.update(name=f"resnet{d}") for d in ("18", "34", "50")}
    return config_lib.apply_variants(config, variant, depths, {"paper": config_lib.paper})
