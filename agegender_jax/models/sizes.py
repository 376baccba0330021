"""Parameters and multiply-adds of the nets, and published counts."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from agegender_jax import models
from agegender_jax.labels import NUM_AGE_BUCKETS

SIZES = (64, 128, 200, 224)

# name: (classes, image size, parameters, multiply-adds, source); those of the CIFAR nets are counted, not published
PROTOTXT = "authors' Caffe prototxt"
PUBLISHED = {
    "ran56": (1000, 224, 31_810_728, 6_270_836_736, PROTOTXT),
    "ran92": (1000, 224, 52_466_344, 10_533_789_696, f"{PROTOTXT} (arXiv 1704.06904 says 51.3 M parameters)"),
    "ran56_cifar": (10, 32, 1_030_394, 122_825_216, "as ran92_cifar"),
    "ran92_cifar": (10, 32, 1_841_274, 211_913_216, "deduced from depth and 1.9 M parameters in arXiv 1704.06904"),
    "ran128_cifar": (10, 32, 2_652_154, 301_001_216, "as ran92_cifar"),
    "ran164_cifar": (10, 32, 3_463_034, 390_089_216, "as ran92_cifar"),
    "ran236_cifar": (10, 32, 5_084_794, 568_265_216, "deduced from depth and 5.1 M parameters in arXiv 1704.06904"),
    "resnet18": (1000, 224, 11_689_512, 1_814_073_344, "torchvision"),
    "resnet34": (1000, 224, 21_797_672, 3_663_761_408, "torchvision"),
    "resnet50": (1000, 224, 25_557_032, 4_089_184_256, "torchvision"),
    "levi_hassner": (2, 227, 11_411_970, 709_250_048, f"{PROTOTXT}, the gender net"),
    "caffenet": (1000, 227, 60_965_224, 724_406_816, "BVLC's Caffe prototxt"),
    "vgg16": (1000, 224, 138_357_544, 15_470_264_320, "arXiv 1409.1556, torchvision"),
    "googlenet": (1000, 224, 6_998_552, 1_582_671_872, "BVLC's Caffe prototxt, without the auxiliary branches"),
    "deep_attention": (2, 96, 182_979, 47_128_384, "chosen here, after Rodriguez et al. 2017"),
    "plain_cnn": (2, 64, 389_410, 60_162_560, "chosen here"),
}

# name: (fields of `build`, source); nets with heads of their own, counted with 12 age buckets
SYSTEMS: dict[str, tuple[dict[str, Any], str]] = {
    "local_dnn": ({}, "chosen here, after Zhang and Xu 2018"),
    "region_sift": ({"classifier": "lda"}, "chosen here, after Kim et al. 2018; PCA and linear discriminants"),
    "frequency_critic": ({}, "chosen here, after Lee et al. 2018; without generator and critics"),
}


def count(net: nn.Module, size: int) -> tuple[int, int]:
    """Return parameters and multiply-adds for one image of `size` pixels.

    Multiply-adds are those of convolutions and dense layers, and those that modules state in a method `multiply_adds`
    with the arguments of their call. Both numbers are those of a prediction: parts that only training uses, such as the
    auxiliary branches of GoogLeNet and the generator of the frequency critic, do not count. Only shapes are traced.
    Windows at the border count fully, as is usual.
    """
    total = 0

    def add(call, args, kwargs, context):
        nonlocal total
        out = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            total += module.variables["params"]["kernel"].size * int(np.prod(out.shape[:-1]))
        elif context.method_name == "__call__" and hasattr(module, "multiply_adds"):
            total += module.multiply_adds(*args)
        return out

    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    rngs = {"params": jax.random.key(0)}
    with nn.intercept_methods(add):  # `init` would create the parts for training, too
        _, variables = jax.eval_shape(lambda x: net.apply({}, x, train=False, mutable=True, rngs=rngs), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), total


def table(names: Iterable[str] | None = None) -> str:
    """Return Markdown: parameters of every backbone, multiply-adds in millions at SIZES, and the net with its head.

    Nets with heads of their own follow, with both heads in all columns.
    """
    head = ["net", "parameters", *(f"M at {size}" for size in SIZES), "with its head", "source"]
    rows = [head, ["---", *["--:"] * (1 + len(SIZES)), "---", "---"]]
    for name in (*models.names(), *models.systems()) if names is None else names:
        if name in SYSTEMS:
            rows.append(_system_row(name))
            continue
        counted = [count(models.backbone(name), size) for size in SIZES]
        classes, size, parameters, multiply_adds, source = PUBLISHED[name]
        with_head = f"{parameters:,} and {multiply_adds / 1e6:,.1f} M: {classes} classes, {size} px"
        rows.append([f"`{name}`", f"{counted[-1][0]:,}", *(f"{m / 1e6:,.1f}" for _, m in counted), with_head, source])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _system_row(name: str) -> list[str]:
    fields, source = SYSTEMS[name]
    net = models.build(name, num_age_classes=NUM_AGE_BUCKETS, gender_to_age="none", **fields)
    counted = [count(net, size) for size in SIZES]
    adds = [f"{multiply_adds / 1e6:,.1f}" for _, multiply_adds in counted]
    return [f"`{name}`", f"{counted[-1][0]:,}", *adds, "both heads in all columns", source]
