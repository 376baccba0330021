"""Draw a figure of a member's attention masks over a few faces."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from agegender_jax import explain, report
from agegender_jax.data.decoding import resize

SIDE = 150  # pixels of a face in the figure
FACES = 7


def has_masks(model: nn.Module) -> bool:
    """Return whether the net has attention modules."""
    return getattr(getattr(model, "backbone", None), "learning", "none") != "none"


def draw(model: nn.Module, variables, pictures: Sequence[np.ndarray], labels: Sequence[str], image_size: int) -> bytes:
    """Return a PNG of the pictures and, below them, the same pictures under the mask of each attention module.

    Args:
      pictures: uint8 RGB [H, W, 3], cropped as for the net.
      labels: one line per picture.
      image_size: side of the net's input in pixels.
    """
    images = np.stack([resize(picture, image_size) for picture in pictures])
    masks = {}
    for module in explain.attention(model, variables, images, shape=(SIDE, SIDE)):
        number = module.name.removeprefix("stage").replace("_att", ".")
        masks["module {}, mask of {} x {}".format(number, *module.size)] = np.asarray(module.mean)
    return report.png(report.attention([resize(picture, SIDE) for picture in pictures], masks, labels))
