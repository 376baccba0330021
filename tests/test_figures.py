import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from reporting import BUCKET_YEARS, everything

from agegender_jax import metrics, report
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.report.figures import calibration, curves, distributions, faces, groups, years
from agegender_jax.report.figures.attention import SIDE, attention, overlay
from agegender_jax.report.figures.confusion import confusion
from agegender_jax.report.figures.mosaic import Row, Tile, mosaic
from agegender_jax.structs import Probs
from agegender_jax.subsets import evenly_spaced

N = 200


@pytest.fixture(scope="module")
def content():
    return everything(N)


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(report.png(figure))).convert("RGB"))


def texts(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


def interval_bars(axis):
    return [collection.get_segments()[0][:, 1].tolist() for collection in axis.collections]


def heights(axis):
    return [bar.get_height() for bar in axis.patches]


def test_figures_without_content_are_left_out():
    results, runs, examples, people = everything(0)
    assert set(report.draw(examples, people, results, runs)) == {"curves.png"}


def test_ages_count_every_image_once(content):
    *_, people = content
    by_years, by_group = distributions.ages(people).axes
    last = people.years.max()
    expected = [np.bincount(people.years[people.gender == g], minlength=last + 1) for g in (0, 1)]
    assert heights(by_years) == [*expected[0], *expected[1]]
    buckets = np.unique(people.age[:, 0])
    assert heights(by_group) == [
        ((people.age[:, 0] == b) & (people.gender == g)).sum() for g in (0, 1) for b in buckets
    ]
    assert texts(by_group)[0] == "{0}\n({0})".format((people.age[:, 0] == buckets[0]).sum())


def test_ages_without_years_are_drawn_by_group(content):
    *_, people = content
    ranges = np.array([[2, 2], [7, 11]])[people.gender]
    grouped = report.Population("faces", np.full(N, -1), ranges, people.gender, np.arange(N) < 50)
    (axis,) = distributions.ages(grouped).axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["20-29", "70+"]
    men = (people.gender == 0).sum()
    assert texts(axis)[0] == f"{men}\n({(people.gender[:50] == 0).sum()})"


def test_scores_are_shares_of_the_true_class(content):
    _, _, examples, _ = content
    (axis,) = distributions.scores(examples).axes
    filled = [patch for patch in axis.patches if hasattr(patch, "get_height")]
    female = examples.probs.gender[examples.gender == 1, 1]
    expected = np.histogram(female, np.linspace(0, 1, 26))[0] / len(female)
    np.testing.assert_allclose([bar.get_height() for bar in filled][25:50], expected)


def test_expected_age_and_its_errors(content):
    _, _, examples, _ = content
    figure = years.expected_age(examples)
    left, right = figure.axes[:2]
    assert left.collections[0].get_array().sum() == N
    expected = examples.probs.age @ np.array(BUCKET_YEARS)
    minors = examples.years < 18
    error = (expected - examples.years)[minors]
    drawn = [line.get_ydata()[0] for line in right.lines if len(line.get_ydata()) == 1]
    assert drawn[0] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert drawn[5] == pytest.approx(error.mean(), rel=1e-5)
    assert right.get_xticklabels()[0].get_text() == f"0-17\nn = {minors.sum()}"


def test_errors_in_years_treat_near_duplicates_as_one_unit(content):
    _, _, examples, _ = content
    alone, pairs = np.arange(N), np.arange(N) // 2
    error = np.abs(examples.probs.age @ np.array(BUCKET_YEARS) - examples.years)
    minors = (examples.years >= 0) & (examples.years < 18)
    for group in (alone, pairs):
        figure = years.expected_age(dataclasses.replace(examples, group=group))
        bar = interval_bars(figure.axes[1])[0]
        np.testing.assert_allclose(bar, metrics.bootstrap_varied(error[minors], group[minors]), rtol=1e-5)


def test_expected_age_needs_years(content):
    _, _, examples, _ = content
    without = dataclasses.replace(examples, years=np.full(N, -1))
    assert years.expected_age(without) is None


def test_confusion_shows_counts_and_shares_of_occurring_classes():
    counts = np.zeros((12, 12), int)
    counts[0, 0], counts[0, 2], counts[2, 2] = 3, 1, 10
    left, right, _ = confusion(counts, AGE_BUCKETS, "age").axes
    assert texts(left) == ["3", "1", "10"] and texts(right) == ["0.750", "0.250", "1.000"]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["0-9  (n = 4)", "20-29  (n = 10)"]


def test_reliability_draws_the_bins_of_the_results(content):
    results, *_ = content
    top = calibration.reliability(results["models"][-1]).axes[0]
    bins = [row for row in results["models"][-1]["calibration"]["age"]["reliability"]["before"] if row["n"]]
    before = top.lines[1]
    ece = results["models"][-1]["calibration"]["age"]["before"]["ece"]
    assert before.get_label() == f"before temperature, ECE {ece:.3f}"
    np.testing.assert_array_equal(before.get_xydata(), [(row["confidence"], row["accuracy"]) for row in bins])
    after = [row for row in results["models"][-1]["calibration"]["age"]["reliability"]["after"] if row["n"]]
    assert interval_bars(top) == [row["ci95"] for row in after]
    assert calibration.reliability({"name": "ran"}) is None


def test_small_groups_are_hollow(content):
    results, *_ = content
    axis = groups.groups(results).axes[0]
    points = [line for line in axis.lines if len(line.get_xdata()) == 1]
    rows = [row for kind in ("gender", "race", "age") for row in results["groups"][kind].values()]
    assert [line.get_xdata()[0] for line in points] == [row["age_accuracy"] for row in rows]
    assert [line.get_markerfacecolor() == "white" for line in points] == [row["n"] < 30 for row in rows]
    assert axis.get_yticklabels()[0].get_text() == f"gender male  (n = {rows[0]['n']})"


def test_curves_ring_the_scored_step(content):
    _, runs, *_ = content
    loss = curves.curves(runs[:1]).axes[0]
    train, val, ring = loss.lines
    assert list(ring.get_xdata()) == [7.0] and ring.get_ydata()[0] == val.get_ydata()[-1] == runs[0].rows[-1]["loss"]
    assert train.get_ydata()[0] == runs[0].rows[0]["loss"]


def test_mistakes_are_the_most_confident(content):
    _, _, examples, _ = content
    wrong = np.flatnonzero(examples.probs.gender.argmax(1) != examples.gender)
    sure = examples.probs.gender.max(1)[wrong]
    labels = texts(faces.mistakes(examples).axes[0])
    start = labels.index(f"gender: 8 most confident of {len(wrong)} errors, n = {N}")
    expected = [f"({p:.3f})" for p in sorted(sure, reverse=True)[:8]]
    assert [labels[k].split()[-1] for k in range(start + 1, start + 17, 2)] == expected


def test_samples_highlight_wrong_predictions(content):
    _, _, examples, _ = content
    chosen = evenly_spaced(N, faces.SAMPLES)
    bucket, predicted = examples.probs.age.argmax(1), examples.probs.gender.argmax(1)
    wrong = (bucket[chosen] != examples.age[chosen, 0]) | (predicted[chosen] != examples.gender[chosen])
    axis = faces.samples(examples).axes[0]
    labels = [text for text in axis.texts if text.get_text() and not text.get_text().startswith("is ")]
    assert [text.get_weight() == "bold" for text in labels] == list(wrong) and len(labels) == 16


def test_the_grid_has_two_of_each_gender_and_age():
    picture = np.random.default_rng(0).integers(0, 256, (92, 92, 3), dtype=np.uint8)
    results, runs, examples, people = everything(N, picture=lambda i: picture)
    labels = texts(faces.grid(examples).axes[0])
    groups_of_both = [len(np.unique(examples.age[examples.gender == g, 0])) for g in (0, 1)]
    assert labels.count("male") == labels.count("female") == 1
    assert sum(text.isdecimal() for text in labels) <= 2 * sum(groups_of_both) <= 48


def test_an_open_last_group_has_its_name_and_its_probability(monkeypatch):
    """0.6 from 70 on, which the label contradicts, against 0.4 on 60-69."""
    monkeypatch.setattr(faces, "mosaic", lambda rows, side: rows)
    probs = Probs(np.tile([0] * 6 + [0.4] + [0.12] * 5, (2, 1)), np.tile([0.9, 0.1], (2, 1)))
    age = np.array([[7, 11], [2, 2]])
    examples = report.Examples(
        "x", probs, np.array([-1, 25]), age, np.array([0, 0]), lambda i: np.zeros((8, 8, 3)), np.arange(2)
    )
    (row,) = faces.mistakes(examples)
    assert [tile.above for tile in row.tiles] == ["70+ (0.600)"]
    assert faces.samples(examples)[0].tiles[0].above == "male 70+"


def test_a_mosaic_shows_pictures_pixel_for_pixel():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    shown = pixels(mosaic([Row([None, Tile(picture)]), Row([Tile(picture)])], 20))
    np.testing.assert_array_equal(shown[8:28, 36:56], picture)
    np.testing.assert_array_equal(shown[36:56, 8:28], picture)
    assert (shown[8:28, 8:28] == 255).all()


def test_wide_pictures_are_shown_whole():
    picture = np.full((10, 40, 3), 7, np.uint8)
    shown = pixels(mosaic([Row([Tile(picture)])], 20))[8:28, 8:28]
    assert (shown[8:12] == 7).all() and (shown[:6] == 255).all()


def test_overlays_run_from_dark_to_bright_over_the_grey_picture():
    mask = np.array([[0.0, 1.0]])
    white, black = (overlay(np.full((1, 2, 3), value, np.uint8), mask) for value in (255, 0))
    assert white[0, 1].sum() > white[0, 0].sum() and black[0, 1].sum() > black[0, 0].sum()
    assert (white.astype(int) - black == round(0.45 * 255)).all() or np.abs(
        white.astype(int) - black - 114.75
    ).max() <= 1


def test_a_constant_mask_is_one_colour_despite_rounding():
    face = np.full((30, 30, 3), 100, np.uint8)
    noise = 0.5 + 1e-7 * np.random.default_rng(0).random((1, 30, 30))
    shown = pixels(attention([face], {"module 3.1": noise}, [""]))
    first = shown.shape[0] - 8 - 15 - SIDE  # above the gap and the line of numbers
    assert (np.ptp(shown[first : first + SIDE, 8 : 8 + SIDE], axis=(0, 1)) == 0).all()


def test_attention_shows_the_range_of_each_scale():
    face = np.zeros((30, 30, 3), np.uint8)
    masks = {"module 1.1": np.linspace(0.25, 0.75, 1800).reshape(2, 30, 30), "module 2.1": np.full((2, 30, 30), 0.5)}
    labels = texts(attention([face, face], masks, ["female 3", "male 80"]).axes[0])
    ends = [
        f"{low:.3f} to {high:.3f}"
        for low, high in zip(*np.linspace(0.25, 0.75, 1800)[[[0, 900], [899, 1799]]], strict=True)
    ]
    assert labels[:5] == ["female 3", "male 80", "module 1.1", *ends]
    assert labels[5:] == ["module 2.1", "0.500 to 0.500", "0.500 to 0.500"]
