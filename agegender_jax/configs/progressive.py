"""Progressive resizing: a net trained at 64 pixels goes on at 96 and then at 112 pixels.

agegender train --config=best:resnet --config.data.source=crop_part1.tar --workdir=runs/px64
agegender train --config=progressive:px96 --config.init_from=runs/px64 --config.data.source=crop_part1.tar \
  --workdir=runs/px96
agegender train --config=progressive:px112 --config.init_from=runs/px96 --config.data.source=crop_part1.tar \
  --workdir=runs/px112

Variants after a colon, comma-separated: px64 (a start from random weights with the same recipe), px96 (the default),
px112 or px128; resnet (the default) or ran. The recipe is that of `best`, with weaker colour changes and no erasing,
with mixup, and with the age loss `years`, which needs ages in years. On crop_part1, the three steps above end at 0.631
in age, 0.892 in gender and an AABD of 0.473; docs/recipe.md has each step with its time, and those of Attention-56.
"""

from collections.abc import Callable

from agegender_jax import config as config_lib
from agegender_jax.configs import best


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = best.get_config("resnet,cpu")
    config.num_epochs = 14
    config.data.image_size = 96
    config.augment.update(colour=0.1, grey=0.02, erasing=0.0, mixup=0.2)
    config.loss.update(age="years", age_spread=0.3)

    def sized(pixels: int, epochs: int, rate: float) -> Callable[[config_lib.ConfigDict], None]:
        return lambda c: c.update({"data": {"image_size": pixels}, "num_epochs": epochs, "optimizer": {"lr": rate}})

    variants = {
        "px64": sized(64, 40, 0.001),
        "px96": lambda c: None,
        "px112": sized(112, 10, 0.0007),
        "px128": sized(128, 10, 0.0007),
        "resnet": lambda c: None,
        "ran": lambda c: c.model.update(name="ran56"),
    }
    return config_lib.apply_variants(config, variant, variants)
