"""Augmentation on the device, inside the jitted step: a pure function of keys and images."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

ERASED_AREA = (0.02, 0.2)  # of the image; Zhong et al. 2017, arXiv 1708.04896, have up to 0.4
ERASED_ASPECT = 3.3  # the same: log-uniform between 1 / 3.3 and 3.3


def augment(keys: jax.Array, images: jax.Array, config: ConfigDict) -> jax.Array:
    """Transform each image by its own key: mirror, window, rotation, colour, erasing.

    If `crop`, `expand`, `aspect` and `rotation` are 0, the image is only mirrored and shifted by whole pixels, with
    repeated edges. Otherwise mirroring, shift, window and rotation are one bilinear resampling with mirrored edges.

    Args:
      keys: [B], one per example.
      images: uint8 [B, H, W, 3].
      config: the `augment` group of a config.
        flip: bool, mirror half of the images.
        shift: largest shift as a fraction of the side.
        crop, expand: the window's area is uniform between 1 - crop and 1 + expand of the image's. A window smaller
          than the image lies anywhere inside it, a larger one anywhere around it.
        aspect: the window's aspect ratio is log-uniform between 1 / (1 + aspect) and 1 + aspect.
        rotation: largest rotation in degrees, either way.
        colour: largest relative change of brightness, contrast and saturation.
        grey: share of the images without colour.
        erasing: share of the images in which a rectangle of one random colour hides a part.

    Returns:
      float32 [B, H, W, 3] in [0, 255].
    """
    return jax.vmap(lambda key, image: _augment(key, image, config))(keys, images)


def mixup(keys: jax.Array, images: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Mix neighbours, images 2i and 2i + 1: share * own + (1 - share) * other.

    The share is max(b, 1 - b) with b ~ Beta(alpha, alpha), so that an image's own label always has the larger weight.
    Source: Zhang et al. 2017, arXiv 1710.09412, where the partner is any image of the batch; since batches are
    shuffled, neighbours are equally random.

    Args:
      keys: [B], one per example, B even; the first of each pair is used.
      images: float32 [B, H, W, 3].
      alpha: above 0.

    Returns:
      The mixed images and the share of each one's own label, float32 [B].
    """
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 3))(keys[::2])
    beta = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    share = jnp.repeat(jnp.maximum(beta, 1 - beta), 2)
    weight = share[:, None, None, None]
    return weight * images + (1 - weight) * swap_neighbours(images), share


def swap_neighbours(x: jax.Array) -> jax.Array:
    """Exchange the rows 2i and 2i + 1 of [B, ...], B even."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _augment(key, image, config):
    # `split(key, n)[i]` is `fold_in(key, i)`, so no step may use both; 3 is the key of mixup
    flip_key, place_key, colour_key, erase_key = (jax.random.fold_in(key, i) for i in (0, 1, 2, 4))
    flipped = jax.random.bernoulli(flip_key) if config.flip else jnp.zeros((), bool)
    if config.crop or config.expand or config.aspect or config.rotation:
        image = _resample(place_key, image, flipped, config)
    else:
        image = _shift(place_key, jnp.where(flipped, image[:, ::-1], image), config.shift).astype(jnp.float32)
    if config.colour:
        image = _recolour(colour_key, image, config.colour)
    if config.grey:
        greyed = jax.random.bernoulli(jax.random.fold_in(colour_key, 1), config.grey)
        image = jnp.where(greyed, image.mean(-1, keepdims=True), image)
    return _erase(erase_key, image, config.erasing) if config.erasing else image


def _shift(key, image, shift):
    """Shift by whole pixels, edges repeated."""
    reach = round(shift * image.shape[0])
    if not reach:
        return image
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    y, x = jax.random.randint(key, (2,), 0, 2 * reach + 1)
    return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


def _resample(key, image, flipped, config):
    """Read a random window, bilinearly: [H, W, 3] -> float32 [H, W, 3].

    A point g, in pixels from the centre of the result, is read at centre + offset + R (side * g), where R rotates and
    `side` [2] is the window's height and width as fractions of the image's.
    """
    area, aspect, angle, *position = jax.random.uniform(key, (7,), minval=-1.0)
    area = 1 + ((config.expand + config.crop) * area + config.expand - config.crop) / 2
    aspect = (1 + config.aspect) ** aspect
    side = jnp.sqrt(jnp.array([area / aspect, area * aspect]))
    offset = jnp.abs(1 - side) / 2 * jnp.array(position[:2]) + config.shift * jnp.array(position[2:])
    angle = jnp.deg2rad(config.rotation) * angle
    height, width = image.shape[:2]
    rows = side[0] * (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2)[:, None]
    columns = jnp.where(flipped, -side[1], side[1]) * (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2)[None]
    y = jnp.cos(angle) * rows + jnp.sin(angle) * columns + (height - 1) / 2 + offset[0] * height
    x = jnp.cos(angle) * columns - jnp.sin(angle) * rows + (width - 1) / 2 + offset[1] * width
    return _bilinear(image, y, x)


def _bilinear(image, y, x):
    """Return the image at pixel positions y and x, [H, W] each, mirrored at the centres of the outer pixels."""
    (low_y, high_y, y), (low_x, high_x, x) = (
        _neighbours(position, size) for position, size in zip((y, x), image.shape, strict=False)
    )

    def row(index):
        return image[index, low_x].astype(jnp.float32) * (1 - x) + image[index, high_x].astype(jnp.float32) * x

    return row(low_y) * (1 - y) + row(high_y) * y


def _neighbours(position, size):
    """Return the two nearest pixels of an axis, mirrored into 0 .. size - 1, and the second's weight, [H, W, 1]."""
    low = jnp.floor(position)

    def mirrored(index):
        return jnp.clip(size - 1 - jnp.abs(size - 1 - jnp.abs(index)), 0)

    low_index = low.astype(jnp.int32)
    return mirrored(low_index), mirrored(low_index + 1), (position - low)[..., None]


def _recolour(key, image, change):
    brightness, contrast, saturation = jax.random.uniform(key, (3,), minval=1 - change, maxval=1 + change)
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * saturation
    mean = image.mean()
    image = (mean + (image - mean) * contrast) * brightness
    return jnp.clip(image, 0.0, 255.0)


def _erase(key, image, share):
    """Hide a rectangle that lies inside the image, in `share` of the images."""
    erased, area, aspect, *rest = jax.random.uniform(key, (8,))
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area
    aspect = ERASED_ASPECT ** (2 * aspect - 1)
    side = jnp.minimum(jnp.sqrt(jnp.array([area / aspect, area * aspect])), 1)
    corner = jnp.array(rest[:2]) * (1 - side)
    pixels = [jnp.arange(size, dtype=jnp.float32) for size in image.shape[:2]]
    inside = [
        (corner[i] * size <= pixels[i]) & (pixels[i] < (corner[i] + side[i]) * size)
        for i, size in enumerate(image.shape[:2])
    ]
    hidden = inside[0][:, None, None] & inside[1][None, :, None] & (erased < share)
    return jnp.where(hidden, 255 * jnp.array(rest[2:])[None, None], image)
