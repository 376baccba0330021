"""SIFT of facial regions with support vector machines, after Kim et al. 2018 ([21] of arXiv 2010.03791).

Known: sub-regions of an aligned face, SIFT in each; PCA and LDA; a layered SVM: gender first, then an age classifier
for that gender. Unknown: regions, sizes, dimensions, kernels. Chosen here, on grey chips of 200 pixels:

    descriptors   9 regions x 4x4 points, upright, windows of 48 pixels, RootSIFT: 144 x 128 numbers
    PCA           to COMPONENTS, scaled to a mean squared norm of 1
    lda           linear discriminant functions of both heads
    rbf           RBF SVMs of both heads on the PCA, one against the rest
    flat          gender as rbf; age by LDA and an RBF SVM
    layered       the same, with one age classifier for each predicted gender

scikit-learn does the fitting (`solve.region_sift`), and this module predicts. SIFT (Lowe 2004) is implemented as matrix
products: the cells of a descriptor are triangular windows, which are separable, so all cells are two products with 8
orientation maps.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.image_constants import LANDMARKS
from agegender_jax.models import layers
from agegender_jax.models.edges import repeat_edges
from agegender_jax.models.grey import grey
from agegender_jax.structs import Outputs

SIZE, CELL, ORIENTATIONS, CLIP = 200, 12, 8, 0.2
REGIONS = {  # centre, as fractions (x, y) of the chip
    "forehead": (0.484, 0.10),
    "left_eye": LANDMARKS[0],
    "right_eye": LANDMARKS[1],
    "glabella": (0.484, 0.297),
    "nose": LANDMARKS[2],
    "left_cheek": (0.20, 0.56),
    "right_cheek": (0.77, 0.56),
    "mouth": (0.491, 0.672),
    "chin": (0.49, 0.88),
}
STEPS = 0.05 * (np.arange(4) - 1.5)  # of the points of a region, fractions of the chip
POINTS = np.array([(x + dx, y + dy) for x, y in REGIONS.values() for dy in STEPS for dx in STEPS]) * SIZE  # [144, 2]
DESCRIPTOR = len(POINTS) * 16 * ORIENTATIONS
COMPONENTS, DISCRIMINANTS = 400, 11
CLASSIFIERS = ("layered", "flat", "rbf", "lda")


class KernelMachine(nn.Module):
    """x [B, D] -> sum_m dual[m] exp(-gamma |x - support[m]|^2) + bias: [B, K].

    Attributes:
      support: M, the number of training examples; those that are not support vectors have a dual of 0.
      outputs: K.
    """

    support: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        zeros = nn.initializers.zeros
        support = self.param("support", zeros, (self.support, x.shape[-1]))
        dual = self.param("dual", zeros, (self.support, self.outputs))
        gamma, bias = self.param("gamma", zeros, ()), self.param("bias", zeros, (self.outputs,))
        distance = (x**2).sum(-1)[:, None] + (support**2).sum(-1)[None] - 2 * jnp.dot(x, support.T, precision="highest")
        return jnp.dot(jnp.exp(-gamma * jnp.maximum(distance, 0)), dual, precision="highest") + bias[None]

    @nn.nowrap
    def multiply_adds(self, x) -> int:
        """Return those of distances and sums for x [B, D]."""
        return len(x) * self.support * (x.shape[-1] + self.outputs)


class RegionSift(nn.Module):
    """images float32 [B, H, W, 3] (see data.normalize) -> Outputs, called as AgeGenderNet. Nothing is trained by steps.

    Attributes:
      num_age_classes: A.
      classifier: one of CLASSIFIERS.
      support: number of training examples, M of `KernelMachine`.
    """

    num_age_classes: int
    classifier: str = "layered"
    support: int = 0

    gender_to_age = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        layers.check_images(images)
        x = self._dense(COMPONENTS, "pca")(describe(grey(images, SIZE)))
        if self.classifier == "lda":
            return Outputs(self._dense(self.num_age_classes, "age_head")(x), self._dense(2, "gender_head")(x))
        score = KernelMachine(self.support, 1, name="gender_svm")(x)
        gender = self._dense(2, "gender_scale")(score)
        if self.classifier == "rbf":
            age = KernelMachine(self.support, self.num_age_classes, name="age_svm")(x)
        else:
            kinds = ("all",) if self.classifier == "flat" else ("male", "female")
            ages = [self._age(x, kind) for kind in kinds]
            age = ages[0] if len(ages) == 1 else jnp.where(gender[:, 1:] > gender[:, :1], ages[1], ages[0])
        return Outputs(self.param("age_scale", nn.initializers.ones, ()) * age, gender)

    @nn.nowrap
    def multiply_adds(self, images) -> int:
        """Return those of `sift` for images [B, H, W, 3]; the other layers have their own."""
        lines_y, lines_x, _, _ = _lines()
        return len(images) * len(lines_y) * SIZE * ORIENTATIONS * (SIZE + len(lines_x))

    def _age(self, x, kind: str):
        z = self._dense(DISCRIMINANTS, f"lda_{kind}")(x)
        return KernelMachine(self.support, self.num_age_classes, name=f"age_svm_{kind}")(z)

    def _dense(self, units: int, name: str) -> nn.Dense:
        return nn.Dense(units, kernel_init=nn.initializers.zeros, precision="highest", name=name)


def describe(images: jax.Array) -> jax.Array:
    """Return RootSIFT descriptors of all points: grey [B, SIZE, SIZE] -> float32 [B, DESCRIPTOR]."""
    cells = sift(images)
    shares = cells / jnp.maximum(cells.sum(-1, keepdims=True), 1e-12)
    root = jnp.where(shares > 0, jnp.sqrt(jnp.where(shares > 0, shares, 1)), 0)  # with a finite derivative at 0
    return root.reshape(images.shape[0], -1)


def sift(images: jax.Array) -> jax.Array:
    """Return SIFT descriptors of unit length, or 0 where the image is constant: [B, SIZE, SIZE] -> [B, 144, 128]."""
    lines_y, lines_x, where_y, where_x = _lines()
    maps = _orientations(images)  # [B, y, x, 8]
    rows = jnp.einsum("ry,byxo->brxo", _windows(lines_y), maps, precision="highest")
    cells = jnp.einsum("cx,brxo->brco", _windows(lines_x), rows, precision="highest")
    cells = cells[:, where_y[:, :, None], where_x[:, None, :]] * _cell_weights()[None, None, :, :, None]
    cells = cells.reshape(images.shape[0], len(POINTS), -1)
    return _unit(jnp.minimum(_unit(cells), CLIP))


def _unit(x):
    return x / jnp.maximum(jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12), 1e-5)


def _orientations(images: jax.Array) -> jax.Array:
    """Return gradient magnitudes, shared by the two nearest of 8 orientations counter-clockwise from the x axis."""
    padded = repeat_edges(images, [(1, 1)] * 2)
    dx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    dy = padded[:, :-2, 1:-1] - padded[:, 2:, 1:-1]  # upwards
    is_flat = (dx == 0) & (dy == 0)
    magnitude = jnp.where(is_flat, 0, jnp.sqrt(jnp.where(is_flat, 1, dx**2 + dy**2)))
    turns = jnp.arctan2(dy, jnp.where(is_flat, 1, dx)) * (ORIENTATIONS / (2 * np.pi))
    turns = jnp.where(turns < 0, turns + ORIENTATIONS, turns)  # jax2onnx cannot convert a remainder
    distance = jnp.abs(turns[..., None] - np.arange(ORIENTATIONS, dtype=np.float32)[None, None, None])
    distance = jnp.minimum(distance, ORIENTATIONS - distance)
    return magnitude[..., None] * jnp.maximum(1 - distance, 0)


def _lines():
    """Return the distinct rows and columns of the cells' centres, and which of them each point has: [144, 4] each."""
    offsets = CELL * (np.arange(4) - 1.5)
    lines, indices = [], []
    for axis in (1, 0):
        centres = np.round(POINTS[:, axis, None] + offsets, 4)
        distinct, where = np.unique(centres, return_inverse=True)
        lines.append(distinct)
        indices.append(where.reshape(centres.shape))
    return *lines, *indices


def _windows(lines: np.ndarray) -> np.ndarray:
    """Return triangular weights [lines, SIZE]; parts outside the image are ignored."""
    distance = np.abs(np.arange(SIZE)[None] - lines[:, None]) / CELL
    return np.maximum(1 - distance, 0).astype(np.float32)


def _cell_weights() -> np.ndarray:
    positions = np.arange(4) - 1.5
    squares = np.array([[a**2 + b**2 for b in positions] for a in positions])
    return np.exp(-squares / 8).astype(np.float32)
