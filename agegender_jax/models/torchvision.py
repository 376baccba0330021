"""Torchvision's names and layouts for the ResNets' leaves.

| ours, below params/backbone       | torchvision's               | layout           |
|-----------------------------------|-----------------------------|------------------|
| conv1/kernel                      | conv1.weight                | HWIO from OIHW   |
| bn1/scale, bias                   | bn1.weight, bias            | as is            |
| batch_stats: bn1/mean, var        | bn1.running_mean, _var      | as is            |
| layer1_0/conv1/kernel             | layer1.0.conv1.weight       | HWIO from OIHW   |
| layer2_0/downsample_conv, _bn     | layer2.0.downsample.0, .1   | as above         |
| head/kernel, bias (`classifier`)  | fc.weight, bias             | transposed, as is |
"""

import re
from collections.abc import Iterable

import numpy as np

LEAF = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
IGNORED = re.compile(r"\.num_batches_tracked$")  # a counter that no net here has


def known(paths: Iterable[str]) -> bool:
    """Whether these are the leaves of a ResNet."""
    return any("/layer1_0/" in path for path in paths)


def name_of(path: str) -> str:
    """`layer2.0.downsample.1.weight` for `params/backbone/layer2_0/downsample_bn/scale`."""
    *parts, leaf = path.split("/")[1:]
    module = ".".join(part for part in parts if part != "backbone")
    module = re.sub(r"^layer(\d)_(\d+)", r"layer\1.\2", module)
    module = module.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return f"{'fc' if module == 'head' else module}.{LEAF[leaf]}"


def to_ours(value: np.ndarray) -> np.ndarray:
    """A weight in this library's layout: OIHW to HWIO, OI to IO, vectors as they are."""
    return {4: lambda: value.transpose(2, 3, 1, 0), 2: lambda: value.T}.get(value.ndim, lambda: value)()
