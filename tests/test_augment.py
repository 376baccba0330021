"""Augmentation value by value, against loops in NumPy that read the same random draws."""

import functools
import math

import jax
import numpy as np
import pytest

from agegender_jax.config import default
from agegender_jax.data.augment import augment, mixup, swap_neighbours

COUNT, HEIGHT, WIDTH = 6, 10, 8
KEYS = jax.random.split(jax.random.key(3), COUNT)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
OFF = {"flip": False, "shift": 0.0, "colour": 0.0}


def config(**fields):
    group = default().augment
    group.update(**(OFF | fields))
    return group


def transformed(keys=KEYS, images=IMAGES, **fields):
    return np.asarray(jax.jit(lambda keys, images: augment(keys, images, config(**fields)))(keys, images))


def draws(key, count, **bounds):
    return np.asarray(jax.random.uniform(key, (count,), **bounds), np.float64)


def parts(key):
    """Return the keys of flip, shift and colour."""
    return jax.random.split(key, 3)


def test_without_options_images_are_unchanged():
    np.testing.assert_array_equal(transformed(), IMAGES)


def test_flip_mirrors_the_columns_of_half_of_the_images():
    flipped = [bool(jax.random.bernoulli(parts(key)[0])) for key in KEYS]
    expected = [image[:, ::-1] if flip else image for image, flip in zip(IMAGES, flipped, strict=True)]
    np.testing.assert_array_equal(transformed(flip=True), expected)
    assert 0 < sum(flipped) < COUNT
    many = jax.random.split(jax.random.key(0), 400)
    ramp = np.broadcast_to(np.arange(WIDTH, dtype=np.uint8)[:, None], (400, 2, WIDTH, 3))
    assert np.mean(transformed(many, ramp, flip=True)[:, 0, 0, 0] > 0) == pytest.approx(0.5, abs=0.08)


def test_shift_moves_by_whole_pixels_and_repeats_the_edges():
    expected = np.empty(IMAGES.shape)
    moves = []
    for n, key in enumerate(KEYS):
        move = np.asarray(jax.random.randint(parts(key)[1], (2,), 0, 5)) - 2  # 0.2 of 10 rows
        moves.append(tuple(move.tolist()))
        for i in range(HEIGHT):
            for j in range(WIDTH):
                y, x = min(max(i + move[0], 0), HEIGHT - 1), min(max(j + move[1], 0), WIDTH - 1)
                expected[n, i, j] = IMAGES[n, y, x]
    np.testing.assert_array_equal(transformed(shift=0.2), expected)
    assert len(set(moves)) > 3


def test_colour_scales_saturation_contrast_and_brightness():
    expected = []
    for image, key in zip(IMAGES.astype(np.float64), KEYS, strict=True):
        brightness, contrast, saturation = draws(parts(key)[2], 3, minval=0.6, maxval=1.4)
        grey = image.mean(-1, keepdims=True)
        image = grey + (image - grey) * saturation
        expected.append(np.clip((image.mean() + (image - image.mean()) * contrast) * brightness, 0, 255))
    np.testing.assert_allclose(transformed(colour=0.4), expected, atol=0.01)


def mirrored(index, size):
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


def resampled(image, key, flip, *, shift, crop, expand, aspect, rotation):
    """Return the window's pixels one by one, for a window that leaves the image by less than its side."""
    area, ratio, angle, *position = draws(jax.random.fold_in(key, 1), 7, minval=-1.0)
    area = 1 - crop + (crop + expand) * (area + 1) / 2
    ratio = (1 + aspect) ** ratio
    side = math.sqrt(area / ratio), math.sqrt(area * ratio)
    angle = math.radians(rotation) * angle
    out = np.empty(image.shape)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            v = side[0] * (i - (HEIGHT - 1) / 2)
            u = side[1] * (j - (WIDTH - 1) / 2) * (-1 if flip else 1)
            y, x = math.cos(angle) * v + math.sin(angle) * u, math.cos(angle) * u - math.sin(angle) * v
            y += (HEIGHT - 1) / 2 + HEIGHT * (abs(1 - side[0]) / 2 * position[0] + shift * position[2])
            x += (WIDTH - 1) / 2 + WIDTH * (abs(1 - side[1]) / 2 * position[1] + shift * position[3])
            top, left = math.floor(y), math.floor(x)
            out[i, j] = sum(
                wy * wx * image[mirrored(top + a, HEIGHT), mirrored(left + b, WIDTH)].astype(float)
                for a, wy in ((0, 1 - y + top), (1, y - top))
                for b, wx in ((0, 1 - x + left), (1, x - left))
            )
    return out


@pytest.mark.parametrize(
    "fields",
    [
        {"crop": 0.5},
        {"expand": 0.5},
        {"aspect": 0.3},
        {"rotation": 40.0},
        {"crop": 0.3, "expand": 0.2, "aspect": 0.1, "rotation": 15.0, "shift": 0.1, "flip": True},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_window_is_resampled_bilinearly(fields):
    options = {"shift": 0.0, "crop": 0.0, "expand": 0.0, "aspect": 0.0, "rotation": 0.0} | fields
    flip = options.pop("flip", False)
    expected = [
        resampled(image, key, flip and bool(jax.random.bernoulli(parts(key)[0])), **options)
        for image, key in zip(IMAGES, KEYS, strict=True)
    ]
    np.testing.assert_allclose(transformed(**fields), expected, atol=0.02)


def test_a_cropped_window_lies_inside_the_image():
    """A ramp is reproduced linearly, without mirroring: no value below the first or above the last one's slope."""
    keys = jax.random.split(jax.random.key(0), 200)
    ramp = np.broadcast_to(np.arange(WIDTH, dtype=np.uint8)[:, None], (200, HEIGHT, WIDTH, 3))
    rows = transformed(keys, ramp, crop=0.5)[:, 0, :, 0]
    steps = np.diff(rows, axis=1)
    assert (np.ptp(steps[:, 1:-1], axis=1) < 1e-3).all()  # the outer half pixels alone are mirrored
    assert steps.min() > 0 and np.sqrt(0.5) - 1e-3 < steps[:, 3].min() < 0.75 and 0.95 < steps[:, 3].max() <= 1.001


def test_grey_images_have_one_value_per_pixel():
    expected = [
        image.mean(-1, keepdims=True).repeat(3, -1)
        if jax.random.bernoulli(jax.random.fold_in(parts(key)[2], 1), 0.5)
        else image
        for image, key in zip(IMAGES.astype(np.float64), KEYS, strict=True)
    ]
    actual = transformed(grey=0.5)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert 0 < (np.ptp(actual, axis=-1).max((1, 2)) < 1e-3).sum() < COUNT


def test_erasing_hides_one_rectangle_inside_the_image():
    expected, erased = IMAGES.astype(np.float64), 0
    for n, key in enumerate(KEYS):
        chance, area, ratio, top, left, *colour = draws(jax.random.fold_in(key, 4), 8)
        area, ratio = 0.02 + 0.18 * area, 3.3 ** (2 * ratio - 1)
        side = min(math.sqrt(area / ratio), 1), min(math.sqrt(area * ratio), 1)
        top, left = top * (1 - side[0]), left * (1 - side[1])
        for i in range(HEIGHT):
            for j in range(WIDTH):
                inside = top <= i / HEIGHT < top + side[0] and left <= j / WIDTH < left + side[1]
                if inside and chance < 0.5:
                    expected[n, i, j] = 255 * np.array(colour)
        erased += chance < 0.5
    np.testing.assert_allclose(transformed(erasing=0.5), expected, atol=1e-3)
    assert 0 < erased < COUNT
    black = np.zeros((200, 32, 32, 3), np.uint8)
    hidden = (transformed(jax.random.split(jax.random.key(1), 200), black, erasing=1.0) > 0).any(-1)
    assert 0.01 < hidden.mean((1, 2)).min() and hidden.mean((1, 2)).max() < 0.25


def test_the_draws_of_an_image_are_independent():
    """`split` and `fold_in` of one key can give the same key twice."""
    keys = jax.random.split(jax.random.key(4), 2000)
    ramp = np.broadcast_to(np.linspace(80, 120, 16)[:, None] + np.array([0, 20, 40]), (2000, 16, 16, 3)).astype(
        np.uint8
    )

    def of(**fields):
        return transformed(keys, ramp, **fields)

    drawn = [(abs(of(**only) - ramp) > 1).any((1, 2, 3)) for only in ({"flip": True}, {"grey": 0.3}, {"erasing": 0.3})]
    drawn += [of(colour=0.3).mean((1, 2, 3)), of(shift=0.3).mean((1, 2, 3)), np.ptp(of(crop=0.5)[..., 0], (1, 2))]
    drawn.append(np.repeat(mixup(keys, ramp.astype(np.float32), 0.4)[1][::2], 2))
    np.testing.assert_allclose(np.corrcoef(np.array(drawn, float)), np.eye(len(drawn)), atol=0.1)


def test_an_example_is_augmented_only_by_its_own_key():
    fields = {"flip": True, "shift": 0.1, "colour": 0.3, "crop": 0.3, "rotation": 10.0, "grey": 0.2, "erasing": 0.5}
    whole = transformed(**fields)
    order = np.array([4, 0, 5, 1, 3, 2])
    np.testing.assert_array_equal(transformed(KEYS[order], IMAGES[order], **fields), whole[order])
    same = transformed(images=IMAGES[:1].repeat(COUNT, 0), **fields)
    assert len({image.tobytes() for image in same}) == COUNT


def test_mixup_mixes_neighbours_and_the_own_label_weighs_at_least_half():
    images = IMAGES.astype(np.float32)
    mixed, share = map(np.asarray, jax.jit(mixup)(KEYS, images, 0.4))
    for n in range(COUNT):
        beta = float(jax.random.beta(jax.random.fold_in(KEYS[n - n % 2], 3), 0.4, 0.4))
        weight, other = max(beta, 1 - beta), n + 1 if n % 2 == 0 else n - 1
        assert share[n] == pytest.approx(weight, abs=1e-6)
        np.testing.assert_allclose(mixed[n], weight * images[n] + (1 - weight) * images[other], atol=1e-3)
    assert (share >= 0.5).all() and len(set(share.tolist())) == COUNT // 2
    np.testing.assert_array_equal(swap_neighbours(np.arange(6)), [1, 0, 3, 2, 5, 4])


def test_mixup_draws_from_the_beta_distribution():
    keys = jax.random.split(jax.random.key(0), 4000)
    mean = functools.partial(jax.jit(lambda keys, images, alpha: mixup(keys, images, alpha)[1].mean()), keys)
    images = np.zeros((4000, 1, 1, 3), np.float32)
    assert mean(images, 1.0) == pytest.approx(0.75, abs=0.01)  # uniform: the larger part's mean
    assert mean(images, 0.1) > 0.9
