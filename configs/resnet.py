"""ResNet-18 on UTKFace faces, the paper's batch, epochs and peak rate.

python -m launch.train --config=configs/resnet.py --config.data.source=PATH

At these defaults, 200 pixels and width 1, a job for a GPU; README has sizes that two CPU cores train in about half an
hour, and what they reach.

Variants after a colon, with commas between: 18, 34, 50 (depth), paper (constant rate, no warm-up, no clipping).
"""

from agegender_jax import config as config_lib


def get_config(variant: str = ""):
    config = config_lib.default()
    config.model.name = "resnet18"
    depths = {d: lambda c, d=d: c.model.update(name=f"resnet{d}") for d in ("18", "34", "50")}
    return config_lib.apply_variants(config, variant, depths | {"paper": config_lib.paper})
