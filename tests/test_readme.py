"""README: its commands are those that scripts rely on, its table is what was measured."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import data, ensemble, models
from agegender_jax.structs import Probs
from benchmarks import result_files
from benchmarks.crop_scores import CROP_PART1

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_has_at_most_100_lines():
    assert len(README.splitlines()) <= 100


def test_the_python_interface():
    """The calls that code outside the repository makes, see docs/models.md."""
    model, backbone = models.build("ran56", num_age_classes=12), models.backbone("resnet18")
    images = data.normalize(np.zeros((2, 64, 64, 3), np.uint8))
    assert images.shape == (2, 64, 64, 3) and images.dtype == jnp.float32
    key = jax.random.key(0)
    outputs, _ = jax.eval_shape(lambda: model.init_with_output(key, images, train=False))
    assert outputs.age_logits.shape == (2, 12) and outputs.gender_logits.shape == (2, 2)
    assert [mask.shape[:3] for mask in outputs.attention] == [(2, 16, 16), (2, 8, 8), (2, 4, 4)]
    features, _ = jax.eval_shape(lambda: backbone.init_with_output(key, images, train=False))
    assert features.ndim == 2 and len(features) == 2
    members = [Probs(np.eye(12)[[i, i]], np.eye(2)[[i, i]]) for i in (0, 1)]
    mean = jax.jit(ensemble.mean_probs)(members)
    np.testing.assert_allclose(mean.age[0, :3], [0.5, 0.5, 0])
    np.testing.assert_allclose(mean.gender, np.full((2, 2), 0.5))


def test_two_command_blocks():
    quickstart, tests = blocks("bash")
    assert "pip install" in quickstart and quickstart.count("launch.") == 3
    for path in ("runs/quickstart/ran", "runs/quickstart/resnet", "reports/quickstart"):
        assert path in quickstart
    assert "[dev]" in tests and "pytest" in tests


def test_paths_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:agegender_jax|benchmarks|tests)/[\w/.]*)", text)
    maps = [block for block in text.split("```")[1::2] if block.startswith("\n")]  # the others name a language
    paths += [f"agegender_jax/{path}" for lines in maps for path in re.findall(r"^ *([\w/]+\.py)", lines, re.MULTILINE)]
    assert len(maps) == 3 and len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "docs", "benchmarks/README.md"])
def test_links_lead_to_files(path):
    page_or_folder = ROOT / path
    for page in sorted(page_or_folder.glob("*.md")) if page_or_folder.is_dir() else [page_or_folder]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


FROM_CROP_PART1 = {  # rows of README and of docs/accuracy.md
    "ours: ResNet-18, width 1, on one core in an hour": "`best_resnet112`: `best_resnet`, continued at 112 pixels",
    "ours: the same with most of val in training": "`last_resnet112`: `last_resnet`, continued at 112 pixels",
    "ours: Attention-56, width 0.25, likewise, with that ResNet-18 as teacher": (
        "`last_ran`: Attention-56, width 0.25, up to 128 pixels, with most of val and `last_resnet112` as teacher"
    ),
    "ours: the ensemble of the second and the third": "ensemble of `last_ran` and `last_resnet112`",
    "ours: an ensemble of four: rows 2 and 3, row 2 with seed 1, and row 2 trained further with UTKFace": (
        "ensemble of `last_resnet112`, `last_resnet112_b`, `last_resnet_utkface` and `last_ran`"
    ),
    "ours: two ResNet-18, one also on FairFace and UTKFace": (
        "ensemble of `finetuned_utkface` and `resnet_wide_distilled`"
    ),
}
DISTILLED_RECIPE = {
    "Attention-56, `ran_again` | 0.622, 0.882, 1.205": 0,
    "ResNet-18, `resnet_distilled` | 0.624, 0.899, 1.151": 1,
    "ensemble of the last two |": 2,
}
FULL_WIDTH_RECIPE = {
    "from random weights | crop_part1": 0,
    "fine-tuned | FairFace, crop_part1": 1,
    "ensemble of the first and the third | FairFace, crop_part1": 2,
}


@pytest.mark.parametrize(
    "page, name, members",
    [
        ("README.md", "crop_scores", FROM_CROP_PART1),
        ("docs/recipe.md", "full_width_crop_part1", FULL_WIDTH_RECIPE),
        ("docs/recipe.md", "distilled_crop_part1", DISTILLED_RECIPE),
        ("docs/recipe.md", "progressive_crop_part1", {"112 pixels | 10, 24 | 0.609, 0.897, 1.229": 2}),
        ("docs/recipe.md", "progressive_attention56_crop_part1", {"128 pixels | 10, 20 | 0.613, 0.879, 1.304": 3}),
        ("docs/accuracy.md", "crop_part1", {"Attention-56": 0, "ResNet-18": 1, "ensemble": 2}),
        ("docs/accuracy.md", "quickstart", {"Attention-56, width 0.25": 0, "ResNet-18, width 0.25": 1, "ensemble": 2}),
    ],
)
def test_tables_are_what_was_measured(page, name, members):
    text, results = (ROOT / page).read_text(), result_files.read(name)
    rows = {row["name"]: row for row in results.get("rows", ()) if row["on"] == CROP_PART1}
    for heading, member in members.items():
        model = rows[member] if rows else results["models"][member]
        cells = [
            f"{model[score]:.3f} [{model['ci95'][score][0]:.3f}, {model['ci95'][score][1]:.3f}]"
            for score in ("age_accuracy", "gender_accuracy", "aabd")
        ]
        assert f"| {heading} | {' | '.join(cells)} |" in text


def test_the_majority_class_is_that_of_the_test_images():
    rows = [row for row in result_files.read("crop_scores")["rows"] if row["on"] == CROP_PART1 and "majority" in row]
    majority = rows[-1]["majority"]
    cells = [f"{majority[score]:.3f}" for score in ("age_accuracy", "gender_accuracy", "aabd")]
    assert f"| majority class | {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


def test_the_scores_on_val_are_those_of_the_runs():
    text = (ROOT / "docs" / "recipe.md").read_text()
    val = result_files.read("distilled_crop_part1")["val"]
    for name in ("ran_distilled", "ran_again", "resnet_distilled"):
        scores = ", ".join(f"{val[name][score]:.3f}" for score in ("age_accuracy", "gender_accuracy", "loss"))
        (row,) = (line for line in text.splitlines() if f"`{name}` |" in line and line.startswith("|"))
        assert f" | {scores} |" in row
    assert min(("ran_distilled", "ran_again"), key=lambda name: val[name]["calibrated_loss"]) == "ran_again"
