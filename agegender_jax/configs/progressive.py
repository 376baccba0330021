"""Progressive resizing: a net trained at 64 pixels goes on at 96 and then at 112 pixels.

agegender train --config=progressive:px64 --config.data.source=crop_part1.tar --workdir=runs/px64
agegender train --config=progressive:px96 --config.init_from=runs/px64 --config.data.source=crop_part1.tar \
  --workdir=runs/px96
agegender train --config=progressive:px112 --config.init_from=runs/px96 --config.data.source=crop_part1.tar \
  --workdir=runs/px112

Variants after a colon, comma-separated: px64 (a start from random weights with the same recipe), px96 (the default),
px112 or px128; resnet (the default) or ran. The recipe is that of `best`, at width 0.5. `progressive:px112` with
`--config.model.width=1` continues `best:resnet`. docs/recipe.md has the results on crop_part1, with the time of each
step, and those of Attention-56.
"""

from collections.abc import Callable

from agegender_jax import config as config_lib
from agegender_jax.configs import best


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = best.get_config("resnet,cpu")
    config.num_epochs = 14
    config.model.width = 0.5
    config.data.image_size = 96
    config.eval.every_epochs = 2

    def sized(pixels: int, epochs: int, rate: float) -> Callable[[config_lib.ConfigDict], None]:
        return lambda c: c.update({"data": {"image_size": pixels}, "num_epochs": epochs, "optimizer": {"lr": rate}})

    sizes = {
        "px64": sized(64, 40, 0.001),
        "px96": lambda c: None,
        "px112": sized(112, 10, 0.0007),
        "px128": sized(128, 10, 0.0007),
    }
    nets = {"resnet": lambda c: None, "ran": lambda c: c.model.update(name="ran56")}
    return config_lib.apply_variants(config, variant, sizes, nets)
