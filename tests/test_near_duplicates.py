import io

import numpy as np
import pytest
from PIL import Image

from agegender_jax.data import near_duplicates


def smooth(seed, side=64):
    """Smooth noise, uint8 [side, side, 3]: no two seeds are near each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def jpeg(image, quality):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def flip_bits(image_hash, count):
    """Return the hash with bits of the image flipped, and the same pixels' of the mirror image."""
    bits = np.unpackbits(image_hash[:32])
    bits[np.random.default_rng(0).permutation(256)[:count]] ^= 1
    return near_duplicates.whole(np.packbits(bits)[None])[0]


@pytest.mark.parametrize("bits, near", [(0, True), (30, True), (31, False)])
@pytest.mark.parametrize("mirror", [False, True])
def test_near_means_at_most_thirty_bits_of_the_image_or_its_mirror_image(bits, near, mirror):
    a = flip_bits(near_duplicates.dhash(smooth(0)), 0)[None]
    b = flip_bits(a[0], bits)[None]
    b = near_duplicates.mirrored(b) if mirror else b
    assert near_duplicates.distances(a, b).tolist() == [bits]
    assert len(near_duplicates.pairs_between(a, b)) == near


def test_pairs_within_come_once_and_in_order(monkeypatch):
    monkeypatch.setattr(near_duplicates, "BLOCK", 7)
    hashes = np.stack([near_duplicates.dhash(smooth(seed)) for seed in range(40)])
    hashes[13], hashes[39] = flip_bits(hashes[2], 20), near_duplicates.mirrored(hashes[:1])[0]
    assert sorted(map(tuple, near_duplicates.pairs_within(hashes).tolist())) == [(0, 39), (2, 13)]
    assert near_duplicates.pairs_within(hashes[:0]).shape == (0, 2)


def test_hash_of_a_ramp():
    ramp = np.repeat(np.tile(np.arange(170, dtype=np.uint8), (160, 1))[..., None], 3, 2)
    for image, ones in ((ramp, [256, 0]), (ramp[:, ::-1], [0, 256])):
        hashes = near_duplicates.halves(near_duplicates.dhash(image)[None])
        assert [int(np.bitwise_count(half).sum()) for half in hashes] == ones


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("white", [False, True])
def test_a_mirror_image_is_found_on_a_white_background(seed, white):
    """Whose equal neighbours have the same bit in both images."""
    image = smooth(seed, 170).copy()
    if white:
        image[:, :100] = 255
    ours, theirs = (near_duplicates.dhash(x)[None] for x in (image, image[:, ::-1]))
    np.testing.assert_array_equal(near_duplicates.mirrored(ours), theirs)
    assert near_duplicates.distances(ours, theirs) == [0] and len(near_duplicates.pairs_between(ours, theirs)) == 1
    old = near_duplicates.mirrored(ours[:, :32])  # of version 0.2
    assert (np.bitwise_count(old ^ theirs).sum() > 2 * near_duplicates.HASH_LIMIT) == white
    assert len(near_duplicates.pairs_between(theirs, ours[:, :32])) == 1  # one new hash is enough


def test_mirrored_copies_among_equal_hashes_are_those_of_all_pairs():
    pictures = []
    for seed in range(4):
        image = smooth(seed, 170).copy()
        image[:, :100] = 255
        pictures += [image, image[:, ::-1]] * (seed + 1)
    hashes, thumbnails = (
        np.stack([of(x) for x in pictures]) for of in (near_duplicates.dhash, near_duplicates.thumbnail)
    )
    pairs = near_duplicates.pairs_within(hashes)
    expected = near_duplicates._mirrored_copies(pairs, (hashes, hashes), (thumbnails, thumbnails))
    actual = near_duplicates.mirrored_copies_within(hashes, thumbnails)
    assert len(expected) >= 1 + 4 + 9 + 16
    np.testing.assert_array_equal(actual, expected[np.lexsort(expected.T[::-1])])
    assert near_duplicates.mirrored_copies_within(hashes[:1], thumbnails[:1]).shape == (0, 2)


def test_a_thumbnail_shows_the_centre():
    image = np.zeros((80, 160, 3), np.uint8)
    image[4:76, 8:152] = 200
    assert (near_duplicates.thumbnail(image) == 200).all()
    assert near_duplicates.thumbnail(image).shape == (near_duplicates.SIDE**2,)


def copies(image):
    """Images that show the same picture."""
    yield image
    yield image[:, ::-1]
    yield jpeg(image, 30)
    yield (image * 0.6 + 60).astype(np.uint8)
    yield np.asarray(Image.fromarray(image).resize((48, 48)))


def test_copies_are_confirmed_and_other_pictures_with_a_near_hash_are_not():
    image, other = smooth(0), smooth(1)
    for far in (17, 30):  # bits
        bits = near_duplicates.dhash(image), flip_bits(near_duplicates.dhash(image), far)
        hashes = tuple(row[None] for row in bits)
        for copy in copies(image):
            pair = near_duplicates.thumbnail(image)[None], near_duplicates.thumbnail(copy)[None]
            assert near_duplicates.confirmed(hashes, pair).tolist() == [True]
        pair = near_duplicates.thumbnail(image)[None], near_duplicates.thumbnail(other)[None]
        assert near_duplicates.confirmed(hashes, pair).tolist() == [False]
    close = bits[0][None], flip_bits(bits[0], 16)[None]
    assert near_duplicates.confirmed(close, pair).tolist() == [True]


def test_a_picture_of_one_colour_confirms_nothing():
    flat = np.full((1, near_duplicates.SIDE**2), 90, np.uint8)
    hashes = np.zeros((1, 64), np.uint8), flip_bits(np.zeros(64, np.uint8), 20)[None]
    assert near_duplicates.confirmed(hashes, (flat, flat + 1)).tolist() == [False]
