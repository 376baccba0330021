"""Deterministic weights by the authors' layer names, to compare whole nets by number.

The scheme: a kernel of the Caffe layer N with OIHW shape is RandomState(crc32(N)).standard_normal(shape) times
sqrt(0.5 / fan_in), BatchNorm is the identity; the 1000-way classifier has shape (1000, 2048) and no bias.
"""

import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import models

UNIT = {
    "conv1": "branch1/conv1_1x1",
    "conv2": "branch1/conv2_3x3",
    "conv3": "branch1/conv3_1x1",
    "proj": "branch2/conv1_1x1",
}
PART = {"pre1": "trunk/res1", "trunk1": "trunk/res2", "trunk2": "trunk/res3"}
MASK = {"down": "down_sample", "skip": "skip", "up": "up_sample"}


def caffe_name(path: list[str]) -> str:
    """Return the authors' name of the convolution at a submodule path, such as ["stage1_att1", "pre1", "conv2"]."""
    if path == ["stem_conv"]:
        return "conv1"
    top = re.fullmatch(r"(stage|final)_?(\d)?_?(res|att)(\d)?", path[0])
    if top[1] == "final":
        return f"post_res_4_{top[4]}/{UNIT[path[1]]}"
    if top[3] == "res":
        return f"pre_res_{top[2]}/{UNIT[path[1]]}"
    module = f"Attention{'ABC'[int(top[2]) - 1]}_{top[4]}"
    if path[1] == "post1":
        return f"{module}/{UNIT[path[2]]}"
    if path[1] != "mask":
        return f"{module}/{PART[path[1]]}/{UNIT[path[2]]}"
    if path[2].startswith("conv"):
        return f"{module}/mask/linear_{path[2][-1]}"
    kind, level, number = re.fullmatch(r"(down|skip|up)(\d)(?:_(\d))?", path[2]).groups()
    return f"{module}/mask/{MASK[kind]}/res{level}{'_' + number if number else ''}/{UNIT[path[3]]}"


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 weights in OIHW (or OI) order for the Caffe layer `name`."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return (draw * np.sqrt(0.5 / np.prod(shape[1:]))).astype(np.float32)


def golden_logits(name: str, size: int, run=lambda f, *args: jax.jit(f)(*args)):
    """Return logits [1000] of `ran56` or `ran92` on a fixed image, and each mask's mean and standard deviation.

    Args:
      run: (function, *arrays) -> what the function returns, compiled.
    """
    net = models.backbone(name)
    image = np.random.RandomState(0).standard_normal((1, 3, size, size)).transpose(0, 2, 3, 1).astype(np.float32)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(image.shape), train=False))

    def fill(path, leaf):
        keys = [p.key for p in path]
        if keys[-1] == "kernel":
            h, w, i, o = leaf.shape
            return weights(caffe_name(keys[1:-1]), (o, i, h, w)).transpose(2, 3, 1, 0)
        return np.full(leaf.shape, keys[-1] in ("scale", "var"), np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    with jax.default_matmul_precision("highest"):
        features, masks = run(lambda v, x: net.apply(v, x, train=False, method="attend"), variables, image)
    logits = np.asarray(features) @ weights("classifier", (1000, features.shape[-1])).T
    return logits[0], np.array([m.mean() for m in masks]), np.array([m.std() for m in masks])
