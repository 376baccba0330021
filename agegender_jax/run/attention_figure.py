"""The attention masks of a member over a few faces."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from agegender_jax import explain, report
from agegender_jax.data.decoding import resize

SIDE = 150  # pixels of a face in the figure
FACES = 7


def has_masks(model: nn.Module) -> bool:
    """Whether the net has attention modules."""
    return getattr(model.backbone, "learning", "none") != "none"


def draw(model: nn.Module, variables, pictures: Sequence[np.ndarray], labels: Sequence[str], image_size: int) -> bytes:
    """PNG of the pictures (uint8 RGB [H, W, 3], cropped as the net's input is) under the masks of each module."""
    images = np.stack([resize(picture, image_size) for picture in pictures])
    shown = {}
    for maps in explain.attention(model, variables, images, shape=(SIDE, SIDE)):
        number = maps.name.removeprefix("stage").replace("_att", ".")
        shown["module {}, mask of {} x {}".format(number, *maps.size)] = np.asarray(maps.mean)
    return report.png(report.attention([resize(picture, SIDE) for picture in pictures], shown, labels))
