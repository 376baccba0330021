import numpy as np
import pytest
from test_near_duplicates import smooth

from agegender_jax.data import near_duplicates, splits


@pytest.fixture(scope="module")
def faces():
    """sha256 and hashes of 400 pictures; 0..39 come in equal pairs, 40..59 in near ones."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (400, 32), dtype=np.uint8)
    sha256 = [f"{i:064x}" for i in rng.permutation(400)]
    for i in range(0, 40, 2):
        sha256[i + 1], hashes[i + 1] = sha256[i], hashes[i]
    for i in range(40, 60, 2):
        hashes[i + 1] = hashes[i]
        hashes[i + 1, :3] ^= 0xFF  # 24 bits
    return np.array(sha256), hashes


def test_groups_are_connected_components(faces):
    group = splits.groups(*faces)
    assert len(np.unique(group)) == 400 - 20 - 10
    assert all(group[i] == group[i + 1] for i in range(0, 60, 2))


def test_a_chain_is_one_group():
    hashes = np.zeros((3, 256), np.uint8)
    hashes[1, :25], hashes[2, :50] = 1, 1
    assert len(set(splits.groups(["a", "b", "c"], np.packbits(hashes, axis=1)))) == 1


def test_many_equal_hashes_are_grouped_as_by_all_pairs(faces, monkeypatch):
    """And without a list of all their pairs, which 20,000 placeholders would have 200 million of."""
    sha256, hashes = faces
    again = np.random.default_rng(1).integers(0, 400, 300)
    hashes = np.concatenate([hashes, hashes[again]])
    sha256 = np.concatenate([sha256, [f"n{i:063}" for i in range(300)]])
    expected = splits._components(near_duplicates.pairs_within(hashes), len(hashes))
    np.testing.assert_array_equal(splits.groups(sha256, hashes), expected)
    compared = []
    pairs_within = near_duplicates.pairs_within
    monkeypatch.setattr(near_duplicates, "pairs_within", lambda h, **o: compared.append(len(h)) or pairs_within(h, **o))
    same = np.repeat(hashes[:1], 20_000, 0)
    assert len(np.unique(splits.groups(np.arange(20_000).astype(str), same))) == 1 and compared == [1]


def test_equal_pixels_are_one_group_whatever_their_hashes():
    hashes = np.stack([np.zeros(32, np.uint8), np.full(32, 0x5A, np.uint8), np.full(32, 0x0F, np.uint8)])
    assert splits.groups(["a", "b", "a"], hashes).tolist() == [0, 1, 0]


def test_a_group_larger_than_val_or_test_is_in_train():
    group = np.array([0] * 60 + list(range(1, 41)))
    split = splits.assign(group, [f"{i:03}" for i in range(100)], 0)
    assert set(split[:60]) == {"train"} and (split == "val").sum() == (split == "test").sum() == 10


def test_a_mirrored_copy_is_in_the_group_of_the_original(faces):
    sha256, hashes = faces
    hashes = near_duplicates.whole(hashes)
    hashes[399:] = near_duplicates.mirrored(hashes[100:101])
    group = splits.groups(sha256, hashes)
    assert group[399] == group[100] and (group == group[100]).sum() == 2


def test_groups_stay_whole_and_shares_are_ten_percent(faces):
    sha256, hashes = faces
    group = splits.groups(sha256, hashes)
    split = splits.assign(group, sha256, 0)
    assert {name: (split == name).sum() for name in ("train", "val", "test")} == {"train": 320, "val": 40, "test": 40}
    assert all(len(set(split[group == g])) == 1 for g in np.unique(group))


def test_a_split_depends_only_on_content_and_seed(faces):
    sha256, hashes = faces
    split = splits.assign(splits.groups(sha256, hashes), sha256, 0)
    order = np.random.default_rng(5).permutation(len(sha256))
    again = splits.assign(splits.groups(sha256[order], hashes[order]), sha256[order], 0)
    np.testing.assert_array_equal(again, split[order])
    assert (splits.assign(splits.groups(sha256, hashes), sha256, 1) != split).any()


def test_a_group_is_named_by_its_smallest_sha256():
    ids = splits.group_ids(np.array([0, 1, 0]), ["c", "b", "a"])
    assert ids.tolist() == ["a", "b", "a"]


def test_mirror_images_that_groups_miss_are_left_out():
    """Of train if they are in val or test, of val if they are in test; groups stay as they are."""
    pictures = [smooth(seed, 170).copy() for seed in range(5)]
    for picture in pictures[:3]:
        picture[:, :100] = 255  # whose hash says nothing of the mirror image's
    images = [*pictures, *(picture[:, ::-1] for picture in pictures[:3])]
    hashes, thumbnails = (np.stack([f(x) for x in images]) for f in (near_duplicates.dhash, near_duplicates.thumbnail))
    group = splits.groups([str(i) for i in range(8)], hashes)
    mirrored = splits.mirrored(hashes, thumbnails)
    assert len(set(group)) == 8 and len(set(mirrored)) == 5 and (mirrored[5:] == mirrored[:3]).all()
    split = np.array(["train", "val", "train", "train", "test", "test", "test", "val"], "<U5")
    splits.leave_out_mirrored(split, mirrored)
    assert split.tolist() == ["", "", "", "train", "test", "test", "test", "val"]


def test_numbers_are_joined_by_equal_ones_of_any_kind():
    assert splits.join(np.array([5, 5, 7, 8, 9]), np.array([0, 1, 1, 3, 4])).tolist() == [0, 0, 0, 1, 2]
