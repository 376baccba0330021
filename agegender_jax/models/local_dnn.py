"""Dense nets on patches at landmarks and on an edge map, after Zhang and Xu 2018 (landmark-guided local deep neural
networks, [22] of arXiv 2010.03791) and Mansanet et al. 2016, whose local net it makes cheaper.

Known: patches at facial landmarks train a local net; a holistic edge map of the whole image trains a second one; their
predictions are combined. The local net sums the posteriors of an image's patches, and a patch's location is an input.
Unknown: sizes, landmarks, edge detector, weights. Chosen here:

| part  | input                                                            | layers             |
|-------|------------------------------------------------------------------|--------------------|
| local | patch of the grey image at 100 pixels, its contrast normalised,  | 512, 512, heads    |
|       | and its location in [-1, 1]                                      |                    |
| edges | Sobel magnitude of the grey image at 48 pixels                   | 512, 512, heads    |

A training step sees one patch of each image, at a random landmark with a jitter of JITTER pixels, mirrored with its
location for half of the images. The prediction is the mean posterior over all landmarks and five offsets, averaged with
that of the edge net. The landmarks are `image_constants.LANDMARKS`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.image_constants import LANDMARKS
from agegender_jax.models import initializers, layers
from agegender_jax.models.edges import repeat_edges
from agegender_jax.models.grey import grey
from agegender_jax.structs import Outputs

SIZE, EDGE_SIZE, JITTER = 100, 48, 5
UNITS, DROPOUT = (512, 512), 0.3
POINTS = {
    # fractions (x, y) of the chip; side of a patch in pixels of 100; how many times it is averaged down
    "five": (LANDMARKS, 24, 1),
    "nine": (tuple((x, y) for y in (0.25, 0.5, 0.75) for x in (0.25, 0.5, 0.75)), 50, 2),
}
OFFSETS = ((0, 0), (-JITTER, 0), (JITTER, 0), (0, -JITTER), (0, JITTER))


class Stack(nn.Module):
    """x [B, D] -> (age_logits [B, A], gender_logits [B, 2])."""

    num_age_classes: int

    @nn.compact
    def __call__(self, x, *, train: bool):
        for n, units in enumerate(UNITS, 1):
            x = nn.relu(nn.Dense(units, kernel_init=initializers.scaled_normal("in"), name=f"fc{n}")(x))
            x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        heads = {"age_head": self.num_age_classes, "gender_head": 2}
        return tuple(
            nn.Dense(units, kernel_init=initializers.normal(0.01), name=name)(x) for name, units in heads.items()
        )


class LocalDNN(nn.Module):
    """images float32 [B, H, W, 3] (see data.normalize) -> Outputs, called as AgeGenderNet.

    In training it needs a key named "dropout", and `Outputs.auxiliary` has the logits of the edge net. Patches are then
    mirrored and shifted at random; edge maps are not. At inference the logits are the logarithms of the mean posterior.

    Attributes:
      num_age_classes: A.
      points: "five" landmarks, or "nine" overlapping patches on a grid (Liao et al. 2017, arXiv 1703.08497).
      edges: whether there is an edge net.
    """

    num_age_classes: int
    points: str = "five"
    edges: bool = True

    gender_to_age = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        layers.check_images(images)
        image = grey(images, SIZE)
        local = Stack(self.num_age_classes, name="local")
        edge_net = Stack(self.num_age_classes, name="edges") if self.edges else None
        edges = edge_net(edge_map(grey(images, EDGE_SIZE)), train=train) if edge_net else None
        if train:
            age, gender = local(self._draw(image, self.make_rng("dropout")), train=True)
            return Outputs(age, gender, (), (edges,) if edges else ())
        inputs = all_patches(image, self.points)  # [B, P, D]
        logits = local(inputs.reshape(-1, inputs.shape[-1]), train=False)
        posteriors = [nn.softmax(x).reshape(*inputs.shape[:2], -1).mean(1) for x in logits]
        if edges:
            posteriors = [(p + nn.softmax(x)) / 2 for p, x in zip(posteriors, edges, strict=True)]
        age, gender = (jnp.log(jnp.maximum(p, 1e-30)) for p in posteriors)
        return Outputs(age, gender)

    def _draw(self, image, key):
        """Return the input of a random patch of each image: [B, SIZE, SIZE] -> [B, D]."""
        points, side, down = POINTS[self.points]
        keys = jax.random.split(key, 3)
        count = len(image)
        mirrored = jax.random.bernoulli(keys[0], shape=(count, 1))
        image = jnp.where(mirrored[..., None], image[..., ::-1], image)
        point = jnp.asarray(points, jnp.float32)[jax.random.randint(keys[1], (count,), 0, len(points))]
        x, y = point[:, :1], point[:, 1:]
        location = jnp.concatenate([jnp.where(mirrored, 1 - x, x), y], -1)
        jitter = jax.random.randint(keys[2], (count, 2), -JITTER, JITTER + 1)
        centre = jnp.round(location * SIZE).astype(jnp.int32) + jitter
        padded = repeat_edges(image, [(SIZE // 2, SIZE // 2)] * 2)

        def one(image, centre):
            start = centre[::-1] + SIZE // 2 - side // 2
            return jax.lax.dynamic_slice(image, start, (side, side))

        return _inputs(jax.vmap(one)(padded, centre)[:, None], centre[:, None] / SIZE, down)[:, 0]


def all_patches(image: jax.Array, points: str) -> jax.Array:
    """Return the inputs of all landmarks at all offsets: [B, SIZE, SIZE] -> [B, P, D]."""
    positions, side, down = POINTS[points]
    centres = np.round(np.array(positions) * SIZE).astype(int)[:, None] + np.array(OFFSETS)
    centres = centres.reshape(-1, 2)  # [P, (x, y)]
    line = np.arange(side) - side // 2
    rows, columns = (np.clip(centres[:, axis, None] + line, 0, SIZE - 1) for axis in (1, 0))
    patches = image[:, rows[:, :, None], columns[:, None, :]]
    return _inputs(patches, jnp.asarray(centres / SIZE, jnp.float32)[None], down)


def _inputs(patches: jax.Array, locations: jax.Array, down: int) -> jax.Array:
    """Return patches [B, P, s, s], contrast normalised, and locations [1 or B, P, 2] in [-1, 1] as [B, P, D]."""
    batch, count, side = patches.shape[:3]
    if down > 1:
        patches = patches.reshape(batch, count, side // down, down, side // down, down).mean((3, 5))
    flat = patches.reshape(batch, count, -1)
    flat = (flat - flat.mean(-1, keepdims=True)) / (flat.std(-1, keepdims=True) + 5)
    return jnp.concatenate([flat, jnp.broadcast_to(2 * locations - 1, (batch, count, 2))], -1)


def edge_map(image: jax.Array) -> jax.Array:
    """Return Sobel magnitudes over 255, flattened; 0 where the image is constant: [B, s, s] -> [B, s s]."""
    padded = repeat_edges(image, [(1, 1)] * 2)

    def smooth(x, axis):
        n = x.shape[axis]
        parts = [jax.lax.slice_in_dim(x, i, n - 2 + i, axis=axis) for i in range(3)]
        return parts[0] + 2 * parts[1] + parts[2]

    def difference(x, axis):
        n = x.shape[axis]
        return jax.lax.slice_in_dim(x, 2, n, axis=axis) - jax.lax.slice_in_dim(x, 0, n - 2, axis=axis)

    squares = smooth(difference(padded, 2), 1) ** 2 + smooth(difference(padded, 1), 2) ** 2
    small = 1e-3  # keeps the derivative finite where the image is constant
    return ((jnp.sqrt(squares + small**2) - small) / 255).reshape(image.shape[0], -1)
