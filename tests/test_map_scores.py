"""Scores of maps: against hand computation, and on nets whose cues are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_attributions import random_variable

from agegender_jax import data, explain, models, report, synthetic
from agegender_jax.explain import faithfulness, localisation, map_scores, maps, sanity
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet
from agegender_jax.structs import Outputs

SIZE, PATCH = 32, (slice(4, 8), slice(20, 24))  # two by two cells, away from the centre
TARGETS = {"age": np.zeros(3, int), "gender": np.ones(3, int)}


class Toy(nn.Module):
    """P(age 0) is the brightness of PATCH in 0..1; P(female) is 0.7 for any image."""

    @nn.compact
    def __call__(self, images, *, train):
        red = (images * data.IMAGENET_STD + data.IMAGENET_MEAN)[..., 0]
        bright = jnp.clip(red[:, PATCH[0], PATCH[1]].mean((1, 2)), 1e-6, 1 - 1e-6)
        gender = jnp.broadcast_to(jnp.log(jnp.array([0.3, 0.7])), (len(images), 2))
        return Outputs(jnp.log(jnp.stack([bright, 1 - bright], -1)), gender)


@pytest.fixture(scope="module")
def faces():
    """Black pictures with a white patch, and the map of the patch."""
    images, perfect = np.zeros((3, SIZE, SIZE, 3), np.uint8), np.zeros((3, SIZE, SIZE), np.float32)
    images[:, *PATCH], perfect[:, *PATCH] = 255, 1
    return images, perfect


def test_areas_by_hand(faces):
    images, perfect = faces
    result = faithfulness.areas(Toy(), {}, images, [perfect, -perfect], TARGETS)
    # 16 cells a step, the patch's 4 first: its brightness falls from 1 to the picture's mean 16 / 1024 in one step
    mean = 16 / 1024
    first = (1 + mean) / 2 / 16 + mean * 15 / 16
    last = (1 + mean) / 2 / 16 + 15 / 16
    np.testing.assert_allclose(result["age"]["deletion"], [[first] * 3, [last] * 3], rtol=1e-4)
    dim = faithfulness.blur(images)[0, *PATCH, 0].mean() / 255
    first, last = (dim + 1) / 2 / 16 + 15 / 16, dim * 15 / 16 + (dim + 1) / 2 / 16
    np.testing.assert_allclose(result["age"]["insertion"], [[first] * 3, [last] * 3], rtol=1e-4)
    for areas in result["gender"].values():
        np.testing.assert_allclose(areas, 0.7, rtol=1e-5)


def test_a_perfect_map_beats_the_controls(faces):
    images, perfect = faces
    images = (images * np.array([1, 0.9, 0.8])[:, None, None, None]).astype(np.uint8)  # equal areas have no interval
    computed = maps.Maps(None, TARGETS, (), {head: {"perfect": perfect} for head in TARGETS}, {})
    rows = map_scores.areas(Toy(), {}, images, computed)["age"]
    assert list(rows) == ["perfect", "random", "blob"]
    row = map_scores.faithfulness_scores(rows, "perfect")
    for control in map_scores.CONTROLS:
        assert row[f"minus_{control}"]["deletion"]["ci95"][1] < -0.1
        assert row[f"minus_{control}"]["insertion"]["ci95"][0] > 0.1
        difference = rows["perfect"]["deletion"].mean() - rows[control]["deletion"].mean()
        assert row[f"minus_{control}"]["deletion"]["mean"] == pytest.approx(difference)


def test_order_of_cells_for_any_image_size():
    for height, width in ((32, 32), (50, 61)):
        rows = np.arange(height) * 16 // height
        columns = np.arange(width) * 16 // width
        ranks = np.random.default_rng(0).permutation(256).reshape(2, 8, 16).reshape(16, 16)
        np.testing.assert_array_equal(faithfulness.order(-ranks[rows][:, columns]), ranks)
    flat = faithfulness.order(np.zeros((2, 32, 32)))
    assert sorted(flat[0].ravel()) == list(range(256)) and flat[0, 0, :4].tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(flat[0], flat[1])


def test_area_and_controls():
    assert faithfulness.area(np.linspace(0, 1, 17)[None] ** 1) == pytest.approx([0.5])
    blob = faithfulness.blob((2, 40, 40))
    centre, offset = blob[0, 19:21, 19:21].mean(), blob[0, 19:21, 29:31].mean()  # a quarter of the side away
    assert offset / centre == pytest.approx(np.exp(-0.5), rel=1e-2)
    noise = faithfulness.random_maps(1, (2, 40, 40))
    assert not np.array_equal(noise[0], noise[1]) and np.array_equal(noise, faithfulness.random_maps(1, (2, 40, 40)))


def test_localisation_by_hand():
    cover = np.zeros((3, 4, 4), np.float32)
    cover[:, 0] = [1, 1, 0.5, 0.1]
    values = np.zeros((3, 4, 4))
    values[0, 0], values[0, 3, 3] = [1, 0, 4, 1], -9
    values[0, 1, 1] = 2
    values[1, 0, 3], values[1, 2, 2] = 3, 2
    np.testing.assert_allclose(localisation.shares(values, cover), [(1 + 2 + 0.1) / 8, 0.3 / 5, np.nan])
    np.testing.assert_allclose(localisation.hits(values, cover), [1, 0, 3 / 16])  # the third is constant
    np.testing.assert_allclose(localisation.area(cover), 2.6 / 16)
    np.testing.assert_allclose(localisation.chance(cover), 3 / 16)


def test_cues_of_a_drawn_face():
    rng = np.random.default_rng([5, 3])
    label = synthetic.sample_label(rng)
    name = f"{label[0]}_{label[1]}_{label[2]}_{5:08d}{3:09d}.jpg.chip.jpg"
    regions = synthetic.masks(name, 96)
    result = localisation.cues(f"folder/{name}", 96, 48)
    for head, names in localisation.CUES.items():
        union = np.any([regions[n] for n in names if n in regions], 0)
        assert result[head].shape == (48, 48)
        assert result[head].mean() == pytest.approx(union.mean(), abs=2e-3)
    with pytest.raises(ValueError, match="no"):
        localisation.cues("1_0_0_20170109142408075.jpg.chip.jpg", 96, 48)


SMALL = {
    "ran": ResidualAttentionNet((1,), (64,), (1,), final_channels=64, final_units=1, t=1, width=0.125),
    "resnet": ResNet((1, 1), False, width=0.125),
}


@pytest.fixture(scope="module", params=list(SMALL))
def net(request):
    net = models.AgeGenderNet(SMALL[request.param], 12)
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(images.shape), train=False))
    variables = jax.device_put(jax.tree_util.tree_map_with_path(random_variable, shapes), jax.local_devices()[0])
    return net, variables, images


def test_weights_are_randomised_from_the_heads_down(net):
    net, variables, _ = net
    fresh = jax.jit(net.init, static_argnames="train")(jax.random.key(1), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    before, changed = variables, []
    for level, after in sanity.randomised(net, variables, SIZE, jax.random.key(1)):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), after["params"], before["params"])
        paths = [path for path, equal in jax.tree_util.tree_leaves_with_path(same) if not equal]
        changed.append((level, {path[1 if path[0].key == "backbone" else 0].key for path in paths}))
        before = after
    jax.tree.map(np.testing.assert_array_equal, after, fresh)
    assert changed[0] == ("heads", {"age_head", "gender_head"}) and len(changed) == 1 + sanity.LEVELS
    assert not set.intersection(*(names for _, names in changed))
    assert changed[-1] in [("stem_conv", {"stem_conv"}), ("conv1", {"conv1"})]
    assert changed[1][1] in [{"final_bn", "final_res1"}, {"layer2_0"}]


def test_likeness_is_the_size_of_the_rank_correlation():
    a = np.arange(16.0).reshape(1, 4, 4)
    swapped = a.copy()
    swapped[0, 0, :2], swapped[0, 3, 2:] = (1, 0), (15, 14)  # 1 - 6 sum d^2 / (n (n^2 - 1)), d = 1 at four pixels
    cases = np.concatenate([a, a**3, -a, 15 - swapped, np.zeros_like(a)])
    np.testing.assert_allclose(sanity.likeness(np.repeat(a, 5, 0), cases), [1, 1, 1, 1 - 24 / (16 * 255), 0])
    assert sanity.likeness(np.zeros((1, 4, 4)), np.ones((1, 4, 4))) == [1]


def test_a_map_that_is_only_inverted_fails(faces, monkeypatch):
    before = np.random.default_rng(0).random((3, SIZE, SIZE))  # no sign, as Grad-CAM
    after = np.stack([before[0], 1 - before[1], before[2]])  # +1, -1, +1 would cancel
    computed, again = (
        maps.Maps(None, TARGETS, (), {head: {"map": m} for head in TARGETS}, {}) for m in (before, after)
    )
    monkeypatch.setattr(sanity, "randomised", lambda *_: [("all", {})])
    monkeypatch.setattr(sanity, "compute_maps", lambda *_, **__: again)
    row = map_scores.score(Toy(), {}, faces[0], computed, None)["age"]["maps"]["map"]
    assert row["sanity"]["last"] == pytest.approx(1) and not row["sanity"]["passes"]


def test_intervals_of_scores_take_copies_as_one_image(monkeypatch):
    rng = np.random.default_rng(0)
    areas = {
        name: {kind: rng.random(8) for kind in ("deletion", "insertion")} for name in ("map", *map_scores.CONTROLS)
    }
    levels, drawn, cover = rng.random((2, 8)), rng.normal(size=(8, SIZE, SIZE)), rng.random((8, SIZE, SIZE)) < 0.4

    def ends(copies, group):
        def repeat(values):
            return np.concatenate([values] * copies)

        monkeypatch.setattr(map_scores, "areas", lambda *_: {"age": jax.tree.map(repeat, areas)})
        levels_by_name = {"map": {"all": tuple(map(repeat, levels))}}
        monkeypatch.setattr(sanity, "similarities", lambda *_: {"age": levels_by_name})
        computed = maps.Maps(None, {"age": np.zeros(8 * copies, int)}, (), {"age": {"map": repeat(drawn)}}, {})
        masks = [{"age": mask} for mask in repeat(cover)]
        images = np.zeros((8 * copies, SIZE, SIZE, 3), np.uint8)
        row = map_scores.score(None, {}, images, computed, masks, group=group)["age"]["maps"]["map"]
        paths = jax.tree_util.tree_flatten_with_path(row)[0]
        return {jax.tree_util.keystr(path): value for path, value in paths if "ci95" in jax.tree_util.keystr(path)}

    once, twice = ends(1, None), ends(2, np.tile(np.arange(8), 2))
    assert len(once) == 2 * (2 + 4 + 2 + 1 + 2) and twice == pytest.approx(once)


@pytest.mark.parametrize("net", ["ran"], indirect=True)
def test_all_scores_of_a_net(net, monkeypatch):
    monkeypatch.setattr(sanity, "LEVELS", 1)  # besides the heads
    monkeypatch.setattr(map_scores, "RANDOM_SEEDS", 1)
    net, variables, images = net
    methods = ["grad_cam", "lrp"]
    computed = maps.compute_maps(net, variables, images, methods=methods)
    half = np.zeros((SIZE, SIZE), np.float32)
    half[:, : SIZE // 2] = 1
    scores = map_scores.score(net, variables, images, computed, [{"age": half, "gender": half}] * 3)
    attention = [f"attention_{module.name}" for module in computed.attention]
    assert attention == ["attention_stage1_att1"]
    for head in explain.HEADS:
        rows = scores[head]["maps"]
        assert list(rows) == [*methods, *attention, "random", "blob"]
        for name in (*methods, *attention):
            sane = rows[name]["sanity"]
            assert sane["n"] == 3 and [level["level"] for level in sane["levels"]][0] == "heads"
            if name in attention:  # the masks do not see the heads
                assert sane["levels"][0]["likeness"]["mean"] == pytest.approx(1)
            assert 0 <= rows[name]["deletion"]["mean"] <= 1
        # the controls do not prefer either half of the picture
        assert rows["blob"]["localisation"]["share"]["mean"] == pytest.approx(0.5, abs=1e-6)
        assert rows["random"]["localisation"]["area"] == 0.5
        account = scores[head]["lrp_account"]
        assert sum(account[name] for name in ("pixels", "absorbed", "feed")) == pytest.approx(1, abs=account["worst"])
    section = report.explanations({"n": 3, "members": {"net": scores}})
    assert len(section["rows"]) == 2 * len(rows) and {len(row) for row in section["rows"]} == {len(section["headings"])}


def test_batches_are_padded_and_cut():
    seen = []

    def double(x, y):
        seen.append(len(x))
        return {"sum": (x + y["y"])[None]}

    count = 2 * maps.BATCH + 3
    x = np.arange(count)
    result = maps.in_batches(double, (x, {"y": x}), axis=1)
    np.testing.assert_array_equal(result["sum"], 2 * x[None])
    assert seen == [maps.BATCH] * 3
