"""Paired differences and their intervals."""

import numpy as np
import pytest

from custom.auc import roc_auc
from custom.study.scores import CaseScores, FindingScores
from custom.study.statistics import compare, summarise


def dice_scores(values: np.ndarray) -> CaseScores:
    names = tuple(f"case{i}" for i in range(len(values)))
    return CaseScores(names, names, tuple("ab"[: values.shape[1]]), values)


def finding_scores(values: np.ndarray, truth: np.ndarray, sources: np.ndarray | None = None) -> FindingScores:
    names = tuple(f"image{i}" for i in range(len(values)))
    patients = tuple(f"patient{i // 2}" for i in range(len(values)))
    sources = np.zeros(len(values), int) if sources is None else sources
    return FindingScores(names, patients, tuple("abc"[: values.shape[1]]), values, truth, sources)


def arms(rng: np.random.Generator, effect: float, seeds: int, cases: int = 30) -> tuple[list, list]:
    difficulty = rng.normal(0.6, 0.15, (cases, 1))
    first = [dice_scores(difficulty + effect + rng.normal(0, 0.02, (cases, 2))) for _ in range(seeds)]
    second = [dice_scores(difficulty + rng.normal(0, 0.02, (cases, 2))) for _ in range(seeds)]
    return first, second


def test_a_difference_is_the_mean_over_seeds_and_cases() -> None:
    first, second = arms(np.random.default_rng(0), 0.05, 3)
    expected = np.mean([a.values - b.values for a, b in zip(first, second, strict=True)])
    assert compare(first, second, 100).mean == pytest.approx(expected)


def test_pairing_makes_the_interval_narrower_than_that_of_an_arm() -> None:
    first, second = arms(np.random.default_rng(0), 0.05, 3)
    found, (_, low, high) = compare(first, second, 2000), summarise(first, 2000)
    assert found.high - found.low < (high - low) / 3


def test_no_interval_of_an_arm_leaves_what_a_score_can_be() -> None:
    for values, end in (([0.0, 0.1, 0.2], 0.0), ([0.8, 0.9, 1.0], 1.0)):
        mean, low, high = summarise([dice_scores(np.full((4, 1), value)) for value in values], 100)
        assert end in (low, high) and low < mean < high and (low, high) != (0.0, 1.0)


def test_an_effect_of_four_standard_errors_is_found() -> None:
    found = [compare(*arms(np.random.default_rng(i), 0.01, 5), replicates=500) for i in range(20)]
    assert all(one.sign == 1 for one in found)


@pytest.mark.parametrize(("seeds", "cases"), [(3, 65), (5, 65), (5, 12)])
@pytest.mark.parametrize("chance", [0.0, 0.03])
def test_where_there_is_none_nineteen_of_twenty_comparisons_find_none(seeds: int, cases: int, chance: float) -> None:
    def compared(number: int) -> int:
        rng = np.random.default_rng(number)
        first, second = arms(rng, 0.0, seeds, cases)
        shifts = rng.normal(0, chance, seeds) + rng.normal(0, 0.02, (cases, 1, 1))
        first = [dice_scores(one.values + shifts[:, :, seed]) for seed, one in enumerate(first)]
        return compare(first, second, replicates=200).sign

    assert sum(compared(number) != 0 for number in range(200)) <= 18  # of 10 that are due


def test_where_there_is_none_few_comparisons_of_auc_find_one() -> None:
    def compared(number: int) -> int:
        rng = np.random.default_rng(number)
        truth = (rng.random((75, 3)) < 0.15).repeat(2, axis=0).astype(float)  # two images a patient
        level, both = rng.normal(0, 1, (75, 3)).repeat(2, axis=0) + truth, []
        for _ in range(2):
            own = level + rng.normal(0, 0.7, (75, 3)).repeat(2, axis=0)  # an arm errs alike with all seeds
            both.append([finding_scores(own + rng.normal(0, 0.2, own.shape), truth) for _ in range(3)])
        return compare(*both, replicates=200).sign

    assert sum(compared(number) != 0 for number in range(200)) <= 18  # of 10 that are due


def clustered(rng: np.random.Generator, patients: int, largest: int, seeds: int = 2) -> tuple[list, list]:
    """Two arms on patients of unlike many images; the second errs by patient, so it ranks the images of one better."""
    index = np.repeat(np.arange(patients), rng.integers(largest // 10 + 1, largest, patients))
    truth = (rng.random((len(index), 1)) < 0.4).astype(float)
    own = rng.normal(0, 2, (patients, 1))[index]
    first = [truth + rng.normal(0, 0.8, truth.shape) for _ in range(seeds)]
    second = [own + 2 * truth + rng.normal(0, 0.3, truth.shape) for _ in range(seeds)]
    images, groups = (tuple(map(str, numbers)) for numbers in (range(len(index)), index))
    sources = np.zeros(len(index), int)
    return tuple([FindingScores(images, groups, ("a",), one, truth, sources) for one in arm] for arm in (first, second))


def test_of_a_true_difference_of_auc_nineteen_of_twenty_intervals_hold_it() -> None:
    true = compare(*clustered(np.random.default_rng(1), 2500, 60, 1), replicates=2).mean
    found = [compare(*clustered(np.random.default_rng(100 + i), 25, 60), replicates=100) for i in range(200)]
    assert sum(not one.low < true < one.high for one in found) <= 18  # of 10 that are due
    assert np.mean([one.high - one.low for one in found]) < 10 * np.std([one.mean for one in found])


def test_pairs_within_a_patient_who_is_drawn_twice_do_not_shift_an_interval() -> None:
    found = [compare(*clustered(np.random.default_rng(i), 20, 60), replicates=300) for i in range(10)]
    shifts = [((one.low + one.high) / 2 - one.mean) / (one.high - one.low) for one in found]
    assert abs(np.mean(shifts)) < 0.045  # without centring .064


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0.6, 0.1, (40, 1))
    steady = [dice_scores(base + 0.02) for _ in range(5)]
    erratic = [dice_scores(base + 0.02 + shift) for shift in (-0.1, -0.05, 0, 0.05, 0.1)]
    scratch = [dice_scores(base)] * 5
    steady_width, erratic_width = (np.subtract(*compare(arm, scratch, 1000)[1:3]) for arm in (steady, erratic))
    assert abs(erratic_width) > 10 * abs(steady_width)


def test_absent_classes_do_not_count() -> None:
    values = np.array([[0.5, np.nan], [0.7, 0.9], [np.nan, np.nan]])
    scores = dice_scores(values)
    assert scores.mean(np.ones((1, 3)))[0] == pytest.approx((0.5 + 0.8) / 2)
    assert scores.per_class() == pytest.approx([0.6, 0.9])
    assert np.isnan(dice_scores(np.array([[0.5, np.nan], [0.7, np.nan]])).per_class()).tolist() == [False, True]


def test_different_cases_are_refused() -> None:
    first, second = arms(np.random.default_rng(0), 0.0, 2)
    with pytest.raises(ValueError, match="different cases"):
        compare(first, [dice_scores(second[0].values[1:])] * 2, 10)


def test_auc_of_one_source_is_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    truth, values = rng.integers(0, 2, (60, 2)).astype(float), rng.random((60, 2))
    expected = [roc_auc(truth[:, k], values[:, k])[0] for k in range(2)]
    assert finding_scores(values, truth).per_class() == pytest.approx(expected)


def test_auc_counts_only_pairs_of_one_source() -> None:
    truth = np.array([[0.0], [1.0], [0.0], [1.0]])
    values = np.array([[0.1], [0.2], [0.8], [0.9]])  # the second source scores higher throughout
    sources = np.array([0, 0, 1, 1])
    assert finding_scores(values, truth, sources).per_class() == pytest.approx([1.0])
    assert finding_scores(values, truth).per_class() == pytest.approx([0.75])


def test_a_weight_of_two_is_an_image_seen_twice() -> None:
    rng = np.random.default_rng(0)
    truth, values = rng.integers(0, 2, (20, 3)).astype(float), rng.random((20, 3))
    weight = np.ones((1, 20))
    weight[0, :5] = 2
    doubled = finding_scores(np.concatenate([values, values[:5]]), np.concatenate([truth, truth[:5]]))
    assert finding_scores(values, truth).mean(weight) == pytest.approx(doubled.mean(np.ones((1, 25))))
