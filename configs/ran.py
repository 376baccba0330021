"""Residual Attention Network on UTKFace faces, the paper's batch, epochs and peak rate.

python -m launch.train --config=configs/ran.py --config.data.source=PATH

At these defaults, 200 pixels and width 1, a job for a GPU; README has sizes that two CPU cores train in about half an
hour, and what they reach.

Variants after a colon, with commas between: 92 (Attention-92), paper (constant rate, no warm-up, no clipping).
"""

from agegender_jax import config as config_lib


def get_config(variant: str = ""):
    config = config_lib.default()
    return config_lib.apply_variants(
        config, variant, {"92": lambda c: c.model.update(name="ran92"), "paper": config_lib.paper}
    )
