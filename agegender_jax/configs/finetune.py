"""Fine-tune `fairface_resnet18`, one of this package's nets, on other faces.

agegender train --config=finetune --config.data.source=crop_part1.tar

All layers are trained; the variant head, after a colon, freezes all below the heads, for a few hundred images. Eight
epochs at 112 pixels, the size that the weights were trained at. The recipe is that of `best`, with half of its rate, a
moving average of decay 0.995, no mixup, and the age bucket instead of the age in years as the target. Faces should be
cropped and upright like those of UTKFace, or come from `agegender align --source`. The leak check does not know the
images that the weights were trained on. docs/recipe.md has the result on crop_part1 and the time.
"""

from agegender_jax import config as config_lib
from agegender_jax.configs import best, transfer


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = best.get_config("resnet,cpu")
    transfer.start_from_faces(config)
    config.num_epochs = 8
    config.optimizer.update(lr=0.0005, ema=0.995)
    config.data.image_size = 112
    config.augment.mixup = 0.0
    config.loss.update(age="ce", age_spread=0.5)
    config.eval.every_epochs = 1
    return config_lib.apply_variants(config, variant, {"head": lambda c: c.optimizer.update(freeze=5)})
