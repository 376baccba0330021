"""Intervals with groups of near-duplicates as units: unchanged for groups of one, correct for larger groups."""

import numpy as np
import pytest
from test_intervals import YEARS_OF_BUCKET, faces, near, plain

from agegender_jax import metrics
from agegender_jax.metrics import calibration
from agegender_jax.structs import Probs


def scores(group, count=150):
    """Return all results with intervals, for two models."""
    age, gender, years, probs = faces(count)
    other = faces(count, seed=5)[3]
    models, bucket_years = [probs, other], [YEARS_OF_BUCKET] * 2
    right = metrics.right_ages(age)
    first, second = (metrics.outcomes(p.age, p.gender, age, gender)["aabd"] for p in models)
    return {
        "scored": metrics.scored(models, bucket_years, age, gender, years, group),
        "paired": metrics.paired(models, bucket_years, [(0, 1)], age, gender, years, group),
        "groups": metrics.by_group(probs.age, probs.gender, age, gender, years % 5, ["all"] * count, group),
        "calibration": calibration.scored({"before": probs.age, "after": other.age}, right, group),
        "seeds": metrics.compare(np.stack([first, second]), np.stack([second, second]), group),
    }


def test_groups_of_one_example_change_nothing():
    alone = scores(None)
    assert scores(np.random.default_rng(0).permutation(150) * 7 - 50) == alone
    assert scores(np.arange(150) // 2) != alone


def test_intervals_without_groups_are_those_of_version_0_1_0():
    values = np.random.default_rng(0).integers(0, 4, 80)
    levels, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(80, counts / 80, size=metrics.RESAMPLES)
    assert metrics.bootstrap(values) == np.quantile(drawn @ levels / 80, [0.025, 0.975]).tolist()
    numbers = np.random.default_rng(0).normal(size=(80, 2))
    rows = np.random.default_rng(0).integers(0, 80, (metrics.RESAMPLES, 80))
    expected = np.quantile(numbers[rows].mean(1), [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(metrics.bootstrap_means(numbers), expected, rtol=1e-12)


@pytest.fixture(scope="module")
def clustered():
    """60 groups of 1 to 5 examples, in mixed order."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    return rng.permutation(group)


def copies(group):
    """Return labels and predictions of two models, equal within a group: age, gender, age_years, probs, probs."""
    age, gender, years, probs = faces(60)
    both = (probs, faces(60, seed=5)[3])
    return age[group], gender[group], years[group], *(Probs(p.age[group], p.gender[group]) for p in both)


def by_groups(group, statistic):
    """Return a statistic of the examples of drawn groups, for `plain`."""
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    return lambda drawn: statistic(np.concatenate([members[g] for g in drawn]))


def test_intervals_are_plain_resampling_of_groups(clustered):
    count = len(clustered)
    age, gender, years, probs, other = copies(clustered)
    (model,) = metrics.scored([probs], [YEARS_OF_BUCKET], age, gender, years, clustered)
    (pair,) = metrics.paired([probs, other], [YEARS_OF_BUCKET] * 2, [(0, 1)], age, gender, years, clustered)
    values = [metrics.per_example(p, YEARS_OF_BUCKET, age, gender, years) for p in (probs, other)]
    bucket, predicted, female = probs.age.argmax(1), probs.gender.argmax(1), probs.gender[:, 1]

    def kappa(i):
        truth, guess = age[i, 0], bucket[i]
        return 1 - ((truth - guess) ** 2).mean() / ((truth[:, None] - guess) ** 2).mean()

    def recalls(i):
        return np.mean([(predicted[i] == gender[i])[gender[i] == g].mean() for g in (0, 1)])

    def auc(i):
        up, down = female[i][gender[i] == 1], female[i][gender[i] == 0]
        return (np.sign(up[:, None] - down) / 2 + 0.5).mean()

    statistics = {"age_kappa": kappa, "gender_balanced_accuracy": recalls, "gender_auc": auc}
    statistics |= {name: lambda i, n=name: values[0][n][i].mean() for name in ("aabd", "aabd_median", "age_mae")}
    for name, statistic in statistics.items():
        assert model[name] == pytest.approx(statistic(np.arange(count)))
        near(model["ci95"][name], plain(60, by_groups(clustered, statistic)))
    for name in ("age_accuracy", "aabd", "age_mae"):
        difference = values[0][name] - values[1][name]
        near(pair[name]["ci95"], plain(60, by_groups(clustered, lambda i, d=difference: d[i].mean())))
    right = metrics.right_ages(age)
    nll = -np.log(probs.age[np.arange(count), age[:, 0]])
    result = calibration.scored({"before": probs.age, "after": None}, right, clustered)["before"]["ci95"]["nll"]
    near(result, plain(60, by_groups(clustered, lambda i: nll[i].mean())))


def test_scores_of_some_examples_take_the_groups_of_those(clustered):
    count = len(clustered)
    age, gender, years, probs, _ = copies(clustered)
    known = np.arange(count) % 3 > 0
    some = metrics.scored([probs], [YEARS_OF_BUCKET], age, gender, np.where(known, years, -1), clustered)[0]
    part = Probs(probs.age[known], probs.gender[known])
    rows = (age[known], gender[known], years[known], clustered[known])
    alone = metrics.scored([part], [YEARS_OF_BUCKET], *rows)[0]
    for name in ("age_mae", "cs5", "minors_as_adults"):
        assert some["ci95"][name] == alone["ci95"][name]


def samples(trials, rate=0.7):
    """Yield outcomes of 80 pictures, a third of which occur two to six times; copies have equal outcomes."""
    rng = np.random.default_rng(0)
    for _ in range(trials):
        sizes = np.where(rng.random(80) < 1 / 3, rng.integers(2, 7, 80), 1)
        group = np.repeat(np.arange(80), sizes)
        first, second = (rng.random(80) < rate).astype(int), (rng.random(80) < rate).astype(int)
        yield group, first[group], second[group]


def coverage(interval, truth):
    covered = [low <= truth <= high for low, high in map(interval, samples(300))]
    return np.mean(covered)


INTERVALS = {
    "wilson": (lambda a, b, group: metrics.wilson(a, group), 0.7),
    "bootstrap": (lambda a, b, group: metrics.bootstrap(a, group), 0.7),
    "paired": (lambda a, b, group: metrics.bootstrap(a - b, group), 0.0),
    "seeds": (lambda a, b, group: metrics.crossed_bootstrap((a - b)[None], group), 0.0),
}


@pytest.mark.parametrize("kind", INTERVALS)
def test_coverage_with_copies(kind):
    """Intervals per image are too narrow; intervals by groups have the nominal coverage."""
    interval, truth = INTERVALS[kind]
    assert coverage(lambda sample: interval(sample[1], sample[2], None), truth) < 0.88
    assert 0.915 <= coverage(lambda sample: interval(sample[1], sample[2], sample[0]), truth) <= 0.985


def test_a_single_group_says_as_much_as_one_example():
    """Two labels of one photo; and nothing about a mean that is no rate."""
    group = np.zeros(10, int)
    values = np.array([0, 1] * 5)
    one = metrics.wilson(np.array([0.5]))
    assert metrics.wilson(values, group) == pytest.approx(one)
    assert metrics.bootstrap_varied(np.array([0, 2]), np.zeros(2, int)) is None
    assert metrics.bootstrap_varied(np.array([0, 2]), np.arange(2)) == metrics.bootstrap_varied(np.array([0, 2]))


def test_wilson_by_groups():
    values = np.random.default_rng(0).integers(0, 2, 60)
    twice = np.repeat(values, 2)
    assert metrics.wilson(twice, np.repeat(np.arange(60), 2)) == pytest.approx(metrics.wilson(values))
    assert metrics.wilson(np.ones(40), np.arange(40) // 4) == pytest.approx(metrics.wilson(np.ones(10)))
    assert metrics.wilson(np.zeros(40), np.zeros(40, int)) == pytest.approx(metrics.wilson(np.zeros(1)))
    different = (
        np.random.default_rng(1).random(400) < 0.5
    )  # a chain of 40 different people: they carry almost as much information
    chained = np.concatenate([np.zeros(40, int), np.arange(1, 361)])
    low, high = metrics.wilson(different, chained)
    alone = metrics.wilson(different)
    assert low <= alone[0] and high >= alone[1] and high - low < 1.3 * (alone[1] - alone[0])


def test_group_indices_count_by_first_appearance():
    assert metrics.group_indices(np.array([7, 3, 7, 9, 3]), 5).tolist() == [0, 1, 0, 2, 1]
    assert metrics.group_indices(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"group must be int \[N\] where N = 3"):
        metrics.group_indices(np.zeros(2, int), 3)
