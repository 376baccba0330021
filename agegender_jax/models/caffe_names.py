"""Weights of Caffe's nets under Caffe's names: `N/0` for the weights of layer N, and `N/1` for its biases.

| ours, below params/backbone                 | Caffe's                                      |
|---------------------------------------------|----------------------------------------------|
| conv1, conv1_1, fc6 (all but GoogLeNet)     | the same                                     |
| conv1, conv2_reduce, conv2                  | conv1/7x7_s2, conv2/3x3_reduce, conv2/3x3    |
| inception_3a/conv3x3_reduce, pool_proj      | inception_3a/3x3_reduce, pool_proj           |
| auxiliary1_conv, auxiliary1_fc              | loss1/conv, loss1/fc                         |
| head (`classifier`)                         | fc8, or loss3/classifier                     |

With pycaffe, such a file is written by

    np.savez(path, **{f"{n}/{i}": blob.data for n, blobs in net.params.items() for i, blob in enumerate(blobs)})

Caffe's images are BGR in 0..255 minus a mean. The first convolution is converted so that it gives the same result for
this library's images. This is exact except at the border of padded convolutions, where Caffe pads with its mean colour
and this library with ImageNet's. The mean is the array `mean` of the file, three numbers in the order RGB, or else
MEAN, which differs from ImageNet's by half a grey level. VGG-Face's is (129.1863, 104.7624, 93.5940); its ports
disagree whether this is RGB or BGR. A mean image is refused; give its mean colour instead.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agegender_jax.image_constants import IMAGENET_MEAN
from agegender_jax.models import levi_hassner

MEAN = np.array([123.68, 116.779, 103.939])  # RGB, of the ImageNet images that BVLC's nets were trained on
OUR_MEAN, OUR_STD = 255 * np.array(IMAGENET_MEAN), np.array(levi_hassner.PIXEL_SCALE)  # of data.normalize
COLOUR = "mean"  # the name of the array with a file's own mean
STEM = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce", "conv2": "conv2/3x3"}
HEADS = ("fc8", "loss")


def are_names(stored: Iterable[str]) -> bool:
    """Return whether the arrays of a file have Caffe's names."""
    return all(name == COLOUR or re.search(r"/[01]$", name) for name in stored)


def known(paths: Iterable[str]) -> bool:
    """Return whether these are the leaves of one of Caffe's nets: Levi and Hassner's, CaffeNet, VGG-16, GoogLeNet."""
    return any(re.search(r"/(fc7|inception_5b/conv1x1)/kernel$", path) for path in paths)


def name_of(path: str, paths: Iterable[str]) -> str:
    """Return `inception_3a/3x3/0` for `params/backbone/inception_3a/conv3x3/kernel`, one of all `paths` of the net."""
    *parts, leaf = path.split("/")[1:]
    module = "/".join(part for part in parts if part != "backbone")
    if any("inception" in path for path in paths):
        module = STEM.get(module, module)
        module = re.sub(r"^auxiliary(\d)_(conv|fc)$", r"loss\1/\2", module)
        module = re.sub(r"^(inception_..)/conv", r"\1/", module)
        module = "loss3/classifier" if module == "head" else module
    return f"{'fc8' if module == 'head' else module}/{int(leaf == 'bias')}"


def to_ours(stored: Mapping[str, np.ndarray], leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a file under our names and in our layouts, the first convolution for our images.

    Args:
      stored: arrays by Caffe's names.
      leaves: the net's leaves by our names, as arrays or shapes.

    Raises:
      ValueError: the mean in the file is not three numbers.
    """
    arrays = {}
    mean = np.asarray(stored.get(COLOUR, MEAN), np.float64)
    if mean.shape != (3,) or not np.isfinite(mean).all():
        raise ValueError(f"the array {COLOUR} must be three numbers, R, G and B, not of shape {mean.shape}")
    for path, leaf in leaves.items():
        name = name_of(path, leaves)
        if name in stored:
            value = np.asarray(stored[name])
            if value.ndim == 1 or leaf.ndim == 1:
                arrays[path] = value.reshape(-1)  # old files have [1, 1, 1, O]
            elif leaf.ndim == 4:
                arrays[path] = value.transpose(2, 3, 1, 0)
            else:
                maps = value.reshape(value.shape[-2:])
                arrays[path] = flattened(maps, channels_before(path, leaves))
    first = next((path for path in leaves if re.search(r"/conv1(_1)?/kernel$", path)), "")
    bias = first.replace("kernel", "bias")
    if first in arrays and bias in arrays:
        rgb = arrays[first][:, :, ::-1].astype(np.float64)
        scale = np.ones(3) if _scales_pixels(leaves) else OUR_STD
        arrays[bias] = (arrays[bias] + (rgb.sum((0, 1)) * (OUR_MEAN - mean)[:, None]).sum(0)).astype(np.float32)
        arrays[first] = (rgb * scale[:, None]).astype(np.float32)
    return arrays


def channels_before(path: str, leaves: Mapping[str, Any]) -> int:
    """Return the number of channels of the map that a dense layer flattens; 0 if its input is a vector."""
    last = {"fc6": r"/conv(5|5_3|3)/kernel$", "auxiliary1_fc": r"/auxiliary1_conv/kernel$"}
    last["auxiliary2_fc"] = last["auxiliary1_fc"].replace("1", "2")
    pattern = last.get(path.split("/")[-2])
    convolutions = [array for name, array in leaves.items() if pattern and re.search(pattern, name)]
    return convolutions[-1].shape[-1] if convolutions else 0


def flattened(weights: np.ndarray, channels: int) -> np.ndarray:
    """Return dense weights [O, I] as [I, O]; if channels > 0, inputs in the order C, H, W are reordered to H, W, C."""
    if not channels or weights.shape[1] % channels:
        return weights.T
    side = math.isqrt(weights.shape[1] // channels)
    if side * side * channels != weights.shape[1]:
        return weights.T
    return weights.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(weights.shape[::-1])


def _scales_pixels(leaves: Mapping[str, Any]) -> bool:
    """Return whether the net multiplies its images by PIXEL_SCALE itself; only Levi and Hassner's does."""
    return any(path.endswith("/fc6/kernel") for path in leaves) and not any(
        re.search(r"/conv5(_3)?/kernel$", path) for path in leaves
    )
