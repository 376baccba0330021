"""Intervals, `unsure` and over N reach their promised rates on data like val's."""

import numpy as np
import pytest

from agegender_jax.errors import ConfigError
from agegender_jax.photos.face_chips import Chip
from agegender_jax.prediction import calibration, intervals, members, minimum_age
from agegender_jax.prediction.calibration import Calibration
from agegender_jax.prediction.face import Picture
from agegender_jax.prediction.faces_from_probs import FacesFromProbs
from agegender_jax.structs import Probs


def draw_predictions(count, seed, spread=1.2, sharpness=1.0):
    """Return predictions and labels of an imperfect net: (Probs, age [N, 2], gender [N], years [N])."""
    rng = np.random.default_rng(seed)
    years = rng.integers(0, 100, count)
    position = years / 10 - 0.5 + spread * rng.normal(size=count)
    age = -sharpness * (np.arange(12) - position[:, None]) ** 2 / 2
    gender = rng.integers(0, 2, count)
    margin = (2 * gender - 1) * 2.5 + 1.5 * rng.normal(size=count)
    female = 1 / (1 + np.exp(-2 * margin))
    age = np.exp(age - age.max(-1, keepdims=True))
    buckets = np.minimum(years // 10, 11)
    probs = Probs((age / age.sum(-1, keepdims=True)).astype(np.float32), np.stack([1 - female, female], -1))
    return probs, np.stack([buckets, buckets], -1), gender, years


def grouped(age):
    """Return FairFace's labels, in which all ages from 70 on are one group."""
    return np.where(age[:, :1] >= 7, [7, 11], age)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 4.0])  # under-confident to over-confident
@pytest.mark.parametrize("merge", [False, True])
def test_intervals_cover_the_true_group_as_often_as_promised(sharpness, merge):
    val, test = draw_predictions(4000, 0, sharpness=sharpness), draw_predictions(4000, 1, sharpness=sharpness)
    ages = [grouped(part[1]) if merge else part[1] for part in (val, test)]
    start = calibration.open_group(ages[0])
    assert start == (7 if merge else None)
    merged = [intervals.merge_open(part[0].age, start) for part in (val, test)]
    rests = intervals.quantiles(merged[0], np.minimum(ages[0], merged[0].shape[1] - 1))
    for coverage in (0.5, 0.8, 0.9, 0.95):
        bounds = intervals.intervals(merged[1], rests[intervals.COVERAGES.index(coverage)])
        true = np.minimum(ages[1], merged[1].shape[1] - 1)
        covered = ((bounds[:, 0] <= true[:, 1]) & (true[:, 0] <= bounds[:, 1])).mean()
        assert covered > coverage - 0.02
        assert (bounds[:, 0] <= merged[1].argmax(-1)).all() and (merged[1].argmax(-1) <= bounds[:, 1]).all()
    assert (np.diff(intervals.intervals(merged[1], rests[40])) < merged[1].shape[1] - 1).mean() > 0.9  # not everything


def test_an_open_last_group_that_val_lacks_is_known_from_train():
    young, exact = np.array([[2, 2], [6, 6]]), np.array([[2, 2], [8, 8]])
    joined = np.concatenate([grouped(exact), exact])  # with a source of exact ages
    for train, expected in ((young, None), (grouped(exact), 7), (exact, None), (joined, None), (None, None)):
        assert calibration.open_group(young, train) == expected
    assert calibration.open_group(grouped(exact), joined) == 7


def test_sets_grow_to_the_more_probable_neighbour():
    probs = np.array([[0.1, 0.5, 0.3, 0.1]])
    expected = {0.6: [1, 1], 0.5: [1, 1], 0.21: [1, 1], 0.2: [1, 2], 0.1: [0, 2], 0.0: [0, 3]}
    for rest, bounds in expected.items():
        assert intervals.intervals(probs, rest).tolist() == [bounds]
    assert intervals.intervals(probs, None).tolist() == [[0, 3]]
    probs = np.tile(probs, (4, 1))
    age = np.arange(4)[:, None].repeat(2, 1)
    np.testing.assert_allclose(intervals._scores(probs, age), [0.1, 1.0, 0.2, 0.0])


def test_intervals_are_no_wider_than_needed():
    """They have no second group where the first is right often enough, and else hold the age as often as asked."""
    val, test = draw_predictions(20_000, 0), draw_predictions(20_000, 1)
    rests, right = intervals.quantiles(val[0].age, val[1]), (val[0].age.argmax(-1) == val[1][:, 0]).mean()
    for coverage in (0.5, 0.7, 0.8, 0.9, 0.95):
        bounds = intervals.intervals(test[0].age, rests[intervals.COVERAGES.index(coverage)])
        covered = ((bounds[:, 0] <= test[1][:, 1]) & (test[1][:, 0] <= bounds[:, 1])).mean()
        if coverage < right - 0.02:
            assert (bounds[:, 0] == bounds[:, 1]).all()
        else:
            assert covered == pytest.approx(max(coverage, right), abs=0.02)


def test_too_few_examples_give_no_quantile():
    probs, age, *_ = draw_predictions(9, 0)
    rests = intervals.quantiles(probs.age, age)
    assert rests[intervals.COVERAGES.index(0.9)] is not None
    assert rests[intervals.COVERAGES.index(0.91)] is None


@pytest.mark.parametrize("max_error", [0.01, 0.05])
def test_over_n_errs_at_most_as_often_as_promised(max_error):
    val, test = draw_predictions(4000, 0), draw_predictions(8000, 1)
    table = minimum_age.thresholds(val[0].age, val[1], val[3])
    for years in (18, 25, 60):
        p, truth = minimum_age.probability(test[0].age, years), test[3] >= years
        thresholds = minimum_age.row(table, years, max_error)
        decisions = np.array([minimum_age.decide(value, *thresholds) for value in p])
        assert (decisions[~truth] == "yes").mean() < 1.5 * max_error
        assert (decisions[truth] == "no").mean() < 1.5 * max_error
        assert (decisions != "unsure").mean() > 0.2


def test_a_group_on_both_sides_of_n_counts_on_both():
    probs, age, _, years = draw_predictions(3000, 0)
    exact = minimum_age.thresholds(probs.age, age, years)
    coarse = minimum_age.thresholds(probs.age, age, np.full(len(years), -1))
    for n, same in ((20, True), (18, False)):
        (yes, no), (wide_yes, wide_no) = minimum_age.row(exact, n, 0.05), minimum_age.row(coarse, n, 0.05)
        assert ((yes, no) == (wide_yes, wide_no)) == same
        assert wide_yes >= yes and wide_no <= no


def test_few_examples_leave_over_n_undecided():
    probs, age, _, years = draw_predictions(60, 0)
    thresholds = minimum_age.row(minimum_age.thresholds(probs.age, age, years), 18, 0.001)
    assert thresholds == (None, None) and minimum_age.decide(0.99999, *thresholds) == "unsure"
    assert minimum_age.decide(0.9, 0.5, None) == "yes" and minimum_age.decide(0.1, None, 0.5) == "no"
    assert minimum_age.decide(0.6, 0.5, 0.7) == "yes" and minimum_age.decide(0.4, 0.3, 0.7) == "no"


def test_probability_of_an_age_is_even_inside_a_bucket():
    probs = np.eye(12)[None, 1]
    assert minimum_age.probability(probs, 10) == 1 and minimum_age.probability(probs, 20) == 0
    assert minimum_age.probability(probs, 18) == pytest.approx(0.2)


def test_unsure_leaves_the_promised_accuracy():
    val, test = draw_predictions(6000, 0), draw_predictions(6000, 1)
    fitted = calibration.fit(val[0], *val[1:], None)
    unsure = fitted["unsure"]
    confidence = test[0].gender.max(-1)
    sure = confidence >= unsure["threshold"]
    right = test[0].gender.argmax(-1) == test[2]
    assert right.mean() < 0.97 and right[sure].mean() > 0.985
    assert sure.mean() == pytest.approx(unsure["share"], abs=0.03) and 0.5 < unsure["share"] < 1


def test_equal_confidences_are_sure_or_unsure_together():
    female = np.full(300, 0.9, np.float32)
    gender = np.r_[np.ones(200, int), np.zeros(100, int)]  # the first 200 are right
    unsure = calibration._unsure(np.stack([1 - female, female], -1), gender)
    assert unsure["share"] == 0 and unsure["threshold"] > 1 and unsure["accuracy"] is None


def test_thresholds_of_very_confident_nets_are_not_rounded():
    probs, age, gender, years = draw_predictions(2000, 0)
    sharp = np.full((2000, 12), 1e-12)
    sharp[np.arange(2000), age[:, 0]] = 1 - 1e-8 * np.random.default_rng(0).random(2000)
    fitted = calibration.fit(Probs(sharp, probs.gender), age, gender, years, None)
    p = minimum_age.probability(sharp, 60)
    assert (p[years >= 60] < minimum_age.row(fitted["over"], 60, 0.05)[1]).mean() <= 0.05
    covered = intervals.intervals(sharp, fitted["rests"][40])
    assert ((covered[:, 0] <= age[:, 0]) & (age[:, 0] <= covered[:, 1])).all()


def test_calibration_of_grouped_labels():
    probs, age, gender, _ = draw_predictions(500, 0)
    unknown = np.full(500, -1)
    images = np.random.default_rng(0).integers(90, 110, (500, 8, 8, 3), dtype=np.uint8)
    fitted = Calibration(**calibration.fit(probs, grouped(age), gender, unknown, None, images))
    assert fitted.open_from == 7 and fitted.bucket_years == [4.5, 14.5, 24.5, 34.5, 44.5, 54.5, 64.5] + 5 * [75.0]
    assert fitted.child["n"] == (age[:, 0] == 0).sum() and fitted.image["brightness"][0] > 85
    assert calibration.fit(Probs(probs.age[:99], probs.gender[:99]), age[:99], gender[:99], unknown[:99], None) is None


def predict(calibrated, probs, chips=None, coverage=0.9, ages=(), max_error=0.05, groups=None):
    count = len(probs.age)
    if chips is None:
        chips = np.full((count, 8, 8, 3), 100, np.uint8)
    parts = [Chip((0, 0, 8, 8), 0.9, None, [], {8: chip}) for chip in chips]
    faces_from_probs = FacesFromProbs(calibrated, coverage, ages, max_error, groups)
    (picture,) = faces_from_probs.add_faces([(Picture("a.jpg", "ok", "", ()), parts)], probs, 8)
    return picture.faces


@pytest.fixture(scope="module")
def calibrated():
    probs, age, gender, years = draw_predictions(3000, 0)
    images = np.random.default_rng(0).integers(0, 256, (3000, 8, 8, 3), dtype=np.uint8)
    return Calibration(**calibration.fit(probs, age, gender, years, None, images))


def test_predictions_follow_the_calibration(calibrated):
    probs, _, gender, years = draw_predictions(2000, 5)
    faces = predict(calibrated, probs, ages=(18,))
    covered = [low <= year <= high for (low, high), year in zip((f.age_interval for f in faces), years, strict=True)]
    assert np.mean(covered) > 0.88
    sure = [f.gender == ("male", "female")[g] for f, g in zip(faces, gender, strict=True) if f.status == "ok"]
    assert 0.985 < np.mean(sure) and 1000 < len(sure) < 2000
    assert np.abs([f.age - year for f, year in zip(faces, years, strict=True)]).mean() < 12
    wrong = [f.over[18]["decision"] == "yes" for f, year in zip(faces, years, strict=True) if year < 18]
    assert np.mean(wrong) < 0.1


def test_flags_of_predictions(calibrated):
    ages = np.eye(12, dtype=np.float32)[[0, 3, 3]]
    chips = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    chips[2] = 5
    child, adult, dark = predict(calibrated, Probs(ages, np.array([[0.1, 0.9]] * 3, np.float32)), chips)
    assert child.flags == ("child",) and adult.flags == () and dark.flags == ("outside_training_range",)


def test_without_a_calibration_intervals_cover_the_probability():
    probs = Probs(np.array([[0.1, 0.5, 0.3, 0.1] + [0.0] * 8], np.float32), np.array([[0.45, 0.55]], np.float32))
    for coverage, bounds in ((0.5, (10, 19)), (0.7, (10, 29)), (0.85, (0, 29)), (0.95, (0, 39))):
        (face,) = predict(None, probs, coverage=coverage, ages=(18,))
        assert face.age_interval == bounds and not face.calibrated and face.status == "ok"
        assert face.over[18]["decision"] == "unsure" and face.over[18]["p"] == pytest.approx(0.5, abs=1e-6)


def test_the_open_group_is_one_prediction():
    probs, age, gender, _ = draw_predictions(500, 0)
    fitted = Calibration(**calibration.fit(probs, grouped(age), gender, np.full(500, -1), None))
    spread = np.array([[0, 0, 0, 0, 0, 0, 0.3, 0.2, 0.2, 0.2, 0.1, 0]], np.float32)
    (face,) = predict(fitted, Probs(spread, np.array([[0.01, 0.99]], np.float32)))
    assert face.age_bucket == "70+" and face.age_interval[1] == 120 and face.age == pytest.approx(0.3 * 64.5 + 0.7 * 75)
    with pytest.raises(ConfigError, match="over 80"):
        FacesFromProbs(fitted, 0.9, (80,), 0.01)


def test_the_open_group_is_one_prediction_without_a_calibration_too():
    groups = members.label_groups([net(7, [5.0] * 7 + [71.0] * 5), net(None, None), net(8, [7.0] * 7 + [75.0] * 5)])
    assert groups == (7, [6.0] * 7 + [73.0] * 5)
    spread = np.array([[0, 0, 0, 0, 0, 0, 0.3, 0.13, 0.13, 0.13, 0.13, 0.18]], np.float32)
    (face,) = predict(None, Probs(spread, np.array([[0.01, 0.99]], np.float32)), coverage=0.6, groups=groups)
    assert face.age_bucket == "70+" and face.age_interval == (70, 120)
    assert face.age == pytest.approx(0.3 * 6 + 0.7 * 73, abs=0.01) and not face.calibrated
    assert members.label_groups([net(7, None)]) == (7, calibration.middles(7))
    assert members.label_groups([net(None, None)]) == (None, calibration.middles(None))


def net(open_from, years):
    return members.Member("net", None, None, {}, (1.0, 1.0), open_from=open_from, bucket_years=years)


@pytest.mark.parametrize("values", [(0.3, (), 0.01), (0.9, (), 0.0001), (0.9, (0,), 0.01)])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ConfigError):
        FacesFromProbs(None, *values)
