import numpy as np
import pytest

from agegender_jax.data import splits


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


@pytest.mark.parametrize("bits, near", [(0, True), (30, True), (31, False)])
def test_near_means_at_most_thirty_bits(bits, near):
    a = np.zeros((1, 256), np.uint8)
    b = a.copy()
    b[0, :bits] = 1
    pairs = splits.near_duplicates(np.packbits(a, axis=1), np.packbits(b, axis=1))
    assert len(pairs) == near


def test_pairs_among_themselves_come_once(faces, monkeypatch):
    monkeypatch.setattr(splits, "BLOCK", 7)
    assert sorted(map(tuple, splits.near_pairs(faces[1]).tolist())) == [(i, i + 1) for i in range(0, 60, 2)]
    assert splits.near_pairs(faces[1][:0]).shape == (0, 2)


def test_difference_hash_of_a_ramp():
    ramp = np.repeat(np.tile(np.arange(170, dtype=np.uint8), (160, 1))[..., None], 3, 2)
    assert np.unpackbits(splits.dhash(ramp)).all() and not np.unpackbits(splits.dhash(ramp[:, ::-1])).any()


def test_groups_are_connected_components(faces):
    group = splits.groups(*faces)
    assert len(np.unique(group)) == 400 - 20 - 10
    assert all(group[i] == group[i + 1] for i in range(0, 60, 2))


def test_a_chain_is_one_group():
    hashes = np.zeros((3, 256), np.uint8)
    hashes[1, :25], hashes[2, :50] = 1, 1
    assert len(set(splits.groups(["a", "b", "c"], np.packbits(hashes, axis=1)))) == 1


def test_groups_stay_whole_and_shares_are_ten_percent(faces):
    sha256, hashes = faces
    group = splits.groups(sha256, hashes)
    split = splits.assign(group, sha256, 0)
    assert {name: (split == name).sum() for name in ("train", "val", "test")} == {"train": 320, "val": 40, "test": 40}
    assert all(len(set(split[group == g])) == 1 for g in np.unique(group))


def test_a_split_depends_on_content_and_seed_alone(faces):
    sha256, hashes = faces
    split = splits.assign(splits.groups(sha256, hashes), sha256, 0)
    order = np.random.default_rng(5).permutation(len(sha256))
    again = splits.assign(splits.groups(sha256[order], hashes[order]), sha256[order], 0)
    np.testing.assert_array_equal(again, split[order])
    assert (splits.assign(splits.groups(sha256, hashes), sha256, 1) != split).any()


def test_a_group_is_named_by_its_smallest_sha256():
    ids = splits.group_ids(np.array([0, 1, 0]), ["c", "b", "a"])
    assert ids.tolist() == ["a", "b", "a"]
