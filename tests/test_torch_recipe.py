"""The PyTorch side of the comparison of recipes: the same schedule, window and resumption."""

import json
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is the other side of the comparison")

from agegender_jax import optim  # noqa: E402
from agegender_jax.configs import best  # noqa: E402
from benchmarks import tables, torch_recipe  # noqa: E402

pytestmark = pytest.mark.slow


def small_config():
    config = best.get_config()
    config.update({"batch_size": 8, "num_epochs": 3, "loss": {"age": "ce"}})
    config.augment.update(mixup=0.0, erasing=0.25)
    config.model.width, config.data.image_size = 0.125, 32
    return config


def faces():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    age, gender = draw.integers(0, 12, (40, 1)).repeat(2, 1), draw.integers(0, 2, 40)
    split = np.array(["train"] * 24 + ["val"] * 16)
    is_in = {"train": split == "train", "val": split == "val", "test": split == "val"}
    prepared = types.SimpleNamespace(images=lambda size: images, age=age, gender=gender)
    return types.SimpleNamespace(
        prepared=prepared,
        indices=lambda name: np.flatnonzero(is_in[name]),
        targets=lambda name: (age[is_in[name]], gender[is_in[name]]),
    )


def test_the_rate_is_that_of_the_library():
    config = small_config()
    training = torch_recipe.Training(config.to_dict(), 10)
    schedule = optim.schedule(config.optimizer, 30)
    for training.step in range(30):
        assert training.rate() == pytest.approx(float(schedule(training.step)), rel=1e-4)


def test_a_window_of_the_whole_image_is_the_image():
    group = {"crop": 0.0, "expand": 0.0, "aspect": 0.0, "rotation": 0.0, "shift": 0.0, "flip": False}
    images = torch.from_numpy(faces().prepared.images(32))
    torch.testing.assert_close(torch_recipe.resample(images, group), images.float(), atol=0.02, rtol=0)
    mirrored = torch_recipe.resample(images, group | {"flip": True})
    matches = [
        [torch.allclose(out, image.float(), atol=0.02) for image in (own, own.flip(1))]
        for out, own in zip(mirrored, images, strict=True)
    ]
    assert all(sum(match) == 1 for match in matches) and 0 < sum(match[0] for match in matches) < 40


def test_a_resumed_training_ends_as_an_undisturbed_one(tmp_path):
    for name, parts in (("whole", (None,)), ("parts", (1, None))):
        (tmp_path / name).mkdir()
        for until in parts:
            training = torch_recipe.train(small_config(), faces(), tmp_path / name, until)
    whole = torch.load(tmp_path / "whole" / "training.pt", weights_only=True)
    assert training.epoch == 3 and len(training.rows) == 3
    for name, weights in training.average.state_dict().items():
        torch.testing.assert_close(weights, whole["average"][name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"loss": {"label_smoothing": 0.0}}, "loss.label_smoothing: 0.0 -> 0.1"),
        ({"data": {"split_seed": 1}}, "data.split_seed: 1 -> 0"),
        ({"data": {"splits": "a.csv"}}, "splits"),
        ({"num_epochs": 9}, "epochs"),
        ({"num_steps": 10}, "steps"),
        ({"eval": {"bn_batches": 50}}, "bn_batches"),
        ({}, "other images"),
    ],
)
def test_a_run_of_another_recipe_is_no_counterpart(tmp_path, change, text):
    config, other = small_config(), small_config()
    other.update({"eval": {"every_epochs": 7}} | change)
    (tmp_path / "config.json").write_text(other.to_json())
    (tmp_path / "run.json").write_text(json.dumps({"source": {"fingerprint": "other" if not change else "same"}}))
    found = types.SimpleNamespace(prepared=types.SimpleNamespace(fingerprint="same"))
    with pytest.raises(ValueError, match=text):
        torch_recipe.comparison(tmp_path, config, None, found)


def test_the_counterpart_is_compared_image_by_image(tmp_path, monkeypatch):
    config, found = small_config(), faces()
    (tmp_path / "config.json").write_text(config.to_json())
    (tmp_path / "run.json").write_text(json.dumps({"source": {"fingerprint": "same"}}))
    found.prepared.fingerprint, found.prepared.group = "same", np.arange(40)
    age, gender = found.targets("test")
    right = [np.eye(12)[age[:, 0]], np.eye(2)[gender]]
    member = types.SimpleNamespace(step=9, probs=types.SimpleNamespace(age=right[0], gender=right[1]))
    monkeypatch.setattr(torch_recipe, "predict_member", lambda *args, **kwargs: member)
    against = torch_recipe.comparison(tmp_path, config, [np.roll(right[0], 1, 1), right[1]], found)
    assert against["minus_torch"]["age_accuracy"]["difference"] == 1
    assert against["minus_torch"]["gender_accuracy"]["difference"] == 0
    assert against["outcomes"]["age_accuracy"] == [[1] * 16, [0] * 16] and len(against["group"]) == 16


def test_settings_without_counterpart_are_refused():
    torch_recipe.check(small_config())
    for field, value in (
        ("augment.mixup", 0.2),
        ("init_from", "runs/a"),
        ("loss.teacher", "runs/a"),
        ("num_steps", 10),
        ("optimizer.rates", "3:0.1"),
        ("accumulate", 4),
        ("model.learning", "none"),
        ("eval.bn_batches", 50),
    ):
        config = small_config()
        config.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError, match=field):
            torch_recipe.check(config)


def test_ranges_of_ages_are_refused(tmp_path):
    found = faces()
    found.prepared.age[0, 1] = 11
    found.prepared.age[0, 0] = 7
    with pytest.raises(ValueError, match="ranges of age buckets"):
        torch_recipe.train(small_config(), found, tmp_path)


def seed_results(seed: int, ours: list[float], **recipe) -> dict:
    """Return the results.json of a seed: four test images of which PyTorch's net has two right."""
    outcomes = {name: [ours, [1.0, 1.0, 0.0, 0.0]] for name in torch_recipe.SCORES}
    test = {name: 0.5 for name in (*torch_recipe.SCORES, "loss")}
    against = {"step": 9, "test": test, "minus_torch": {}, "outcomes": outcomes, "group": [0, 1, 2, 3]}
    val = [{"epoch": epoch} for epoch in range(1, 8)]
    config = {"seed": seed, "num_epochs": 7} | recipe
    return {"config": config, "torch": "2", "threads": 1, "device": "cpu", "fingerprint": "a", "val": val} | {
        "test": test,
        "against": against,
    }


def test_seeds_are_pooled_over_images_and_seeds():
    result = torch_recipe.pooled([seed_results(0, [1.0] * 4), seed_results(1, [1.0, 0.0, 0.0, 0.0])])
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert [row["epoch"] for row in result["runs"][1]["val"]] == [5, 7]
    assert result["minus_torch"]["aabd"]["difference"] == pytest.approx((0.5 - 0.25) / 2)
    assert "| PyTorch, seed 1 | 0.500 |" in tables.control(result)


def test_a_seed_counts_once_and_needs_its_counterpart():
    first, second = seed_results(0, [1.0] * 4), seed_results(1, [1.0] * 4)
    with pytest.raises(ValueError, match="same seed"):
        torch_recipe.pooled([first, first])
    del second["against"]
    with pytest.raises(ValueError, match="without --against"):
        torch_recipe.pooled([first, second])


@pytest.mark.parametrize("change", [{"num_epochs": 8}, {}])
def test_results_of_other_recipes_are_not_pooled(change):
    other = seed_results(1, [1.0] * 4, **change) | ({} if change else {"fingerprint": "b"})
    with pytest.raises(ValueError, match="different recipes or images"):
        torch_recipe.pooled([seed_results(0, [1.0] * 4), other])
