"""Torchvision's names and layouts for the leaves of ResNets and of VGG-16.

| ours, below params/backbone       | torchvision's               | layout           |
|-----------------------------------|-----------------------------|------------------|
| conv1/kernel                      | conv1.weight                | HWIO from OIHW   |
| bn1/scale, bias                   | bn1.weight, bias            | unchanged        |
| batch_stats: bn1/mean, var        | bn1.running_mean, _var      | unchanged        |
| layer1_0/conv1/kernel             | layer1.0.conv1.weight       | HWIO from OIHW   |
| layer2_0/downsample_conv, _bn     | layer2.0.downsample.0, .1   | as above         |
| head/kernel, bias (`classifier`)  | fc.weight, bias             | transposed, unchanged |
| VGG-16: conv1_1, ..., conv5_3     | features.0, ..., .28        | as above         |
| fc6, fc7, head                    | classifier.0, .3, .6        | transposed; fc6's inputs C, H, W to H, W, C |

torchvision's VGG-16 always has 7x7 maps before fc6; here this is so only at 224 pixels.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agegender_jax.models import caffe_names
from agegender_jax.models.vgg import BLOCKS

LEAF = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
VGG = {"fc6": "classifier.0", "fc7": "classifier.3"}
VGG |= {  # a ReLU after each convolution, a pooling after each block
    f"conv{b + 1}_{n + 1}": f"features.{2 * (sum(map(len, BLOCKS[:b])) + n) + b}"
    for b, block in enumerate(BLOCKS)
    for n in range(len(block))
}
IGNORED = re.compile(r"\.num_batches_tracked$")  # a counter that no net here has


def known(paths: Iterable[str]) -> bool:
    """Return whether these are the leaves of a ResNet or of VGG-16."""
    return any("/layer1_0/" in path or "/conv5_3/" in path for path in paths)


def name_of(path: str) -> str:
    """Return `layer2.0.downsample.1.weight` for `params/backbone/layer2_0/downsample_bn/scale`."""
    *parts, leaf = path.split("/")[1:]
    module = ".".join(part for part in parts if part != "backbone")
    if module in VGG:
        return f"{VGG[module]}.{LEAF[leaf]}"
    module = re.sub(r"^layer(\d)_(\d+)", r"layer\1.\2", module)
    module = module.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return f"{'fc' if module == 'head' else module}.{LEAF[leaf]}"


def to_ours(value: np.ndarray) -> np.ndarray:
    """Return a weight in this library's layout: OIHW to HWIO, OI to IO, vectors unchanged."""
    return {4: lambda: value.transpose(2, 3, 1, 0), 2: lambda: value.T}.get(value.ndim, lambda: value)()


def all_to_ours(stored: Mapping[str, np.ndarray], leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a file by our names, in this library's layouts.

    Args:
      stored: arrays by torchvision's names.
      leaves: the net's leaves by our names, as arrays or shapes.
    """
    arrays = {path: to_ours(stored[name_of(path)]) for path in leaves if name_of(path) in stored}
    for path in arrays:
        if channels := caffe_names.channels_before(path, leaves) if path.endswith("/fc6/kernel") else 0:
            arrays[path] = caffe_names.flattened(stored[name_of(path)], channels)
    return arrays
