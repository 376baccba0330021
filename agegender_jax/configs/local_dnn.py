"""Dense nets on patches at landmarks and on an edge map, after Zhang and Xu 2018 ([22] of arXiv 2010.03791).

agegender train --config=local_dnn --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: five (the default: eyes, nose, mouth), nine (overlapping patches after Liao et
al. 2017), noedges (the local net alone).

What is known is that patches at landmarks and an edge map of the whole image train two nets whose predictions are
combined; sizes, widths, the edge detector and the weights are our choices (agegender_jax/models/local_dnn.py). The
images must be aligned chips. In training, patches are mirrored and shifted; edge maps are not varied. A prototype
reached 0.494 and 0.817 (age and gender accuracy on the test split of `crop_part1`) in two minutes of one core, 0.405
and 0.747 without the edge net.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 256, "num_epochs": 160})
    config.model.update(name="local_dnn", gender_to_age="none")
    config.optimizer.lr = 0.001
    config.augment.update(flip=False, shift=0.0, colour=0.0)  # the net varies its own patches
    config.eval.every_epochs = 10
    points = {
        "five": lambda c: c.model.update(points="five"),
        "nine": lambda c: c.model.update(points="nine"),
    }
    edges = {"noedges": lambda c: c.model.update(edges=False)}
    return config_lib.apply_variants(config, variant, points, edges)
