"""Statistics against brute force, scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from iqarena.metrics.statistics import (
    cluster_weights,
    holm,
    interval,
    mean_of_present,
    paired_test,
    ranking,
    weighted_mean,
    weighted_median,
)


def expanded(values: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Each replicate written out, element by element."""
    return [np.repeat(values, w.astype(int)) for w in weights]


def test_clusters_are_drawn_whole_and_a_few_less_than_there_are() -> None:
    names = [f"{k // 2}" for k in range(26)]
    weights = cluster_weights(names, seed=3, replicates=4000)
    assert weights.shape == (4000, 26)
    np.testing.assert_array_equal(weights[:, ::2], weights[:, 1::2])
    drawn = weights[:, ::2].sum(axis=1)
    assert set(drawn) == {9, 10}
    wide = scipy_stats.t.ppf(0.975, 12) / scipy_stats.norm.ppf(0.975) * np.sqrt(13 / 12)
    assert drawn.mean() == pytest.approx(13 / wide**2, abs=0.03)
    np.testing.assert_array_equal(weights, cluster_weights(names, seed=3, replicates=4000))
    assert not np.array_equal(weights, cluster_weights(names, seed=4, replicates=4000))
    np.testing.assert_allclose(weights.mean(axis=0), drawn.mean() / 13, atol=0.05)


@pytest.mark.parametrize(
    ("images", "skewed"), [(5, False), (13, False), (24, False), (52, False), (13, True), (24, True), (52, True)]
)
def test_intervals_cover_what_they_say(images: int, skewed: bool) -> None:
    """Of a mean over pairs that share their images, at the numbers of images that runs have."""
    rng, runs, truth = np.random.default_rng(images), 2000, 0.5
    weights = cluster_weights([str(k) for k in range(images)], seed=1)
    of_image = rng.gamma(4, 0.5, (images, runs)) - 2 if skewed else rng.normal(size=(images, runs))
    effects = truth + of_image + 0.5 * rng.normal(size=(3, images, runs))  # three pairs
    samples = np.stack([weights @ pair / weights.sum(axis=1, keepdims=True) for pair in effects]).mean(axis=0)
    low, high = interval(samples)
    least = 0.92 if skewed and images == 13 else 0.93  # a skewed mean of thirteen: no interval of ours is right
    assert least <= ((low <= truth) & (truth <= high)).mean() <= 0.97


@pytest.mark.parametrize("clusters", [["a"], ["a", "b", "c", "d"]])
def test_too_few_clusters_give_no_replicates_and_an_empty_interval(clusters: list[str]) -> None:
    weights = cluster_weights(clusters * 2, seed=0)
    assert weights.shape == (0, 2 * len(clusters))
    assert np.isnan(interval(weights.astype(float))).all()


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_weighted_mean_and_median_equal_the_expanded_replicates(size: int) -> None:
    rng = np.random.default_rng(size)
    values = rng.integers(0, 4, size).astype(float)  # with ties
    weights = rng.integers(0, 3, (200, size)).astype(float)
    weights[0] = 0  # nothing drawn, beside replicates that take longer to search
    drawn = expanded(values, weights)
    np.testing.assert_allclose(weighted_mean(values, weights), [d.mean() if len(d) else np.nan for d in drawn])
    np.testing.assert_allclose(weighted_median(values, weights), [np.median(d) if len(d) else np.nan for d in drawn])


def test_interval_of_a_mean_has_the_width_of_the_normal_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    weights = cluster_weights([str(k) for k in range(400)], seed=1, replicates=4000)
    low, high = interval(weighted_mean(values, weights)[:, None])[:, 0]
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.01)


def test_interval_leaves_out_missing_replicates() -> None:
    samples = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    np.testing.assert_allclose(interval(samples, level=0.5)[:, 0], np.quantile([1, 2, 3], [0.25, 0.75]))
    assert np.isnan(interval(samples)[:, 1]).all()


def test_mean_of_present() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of_present(values, axis=1), [2.0, np.nan])


def test_holm_on_a_worked_example() -> None:
    # sorted .005 .01 .03 .04 → times 4 3 2 1 = .02 .03 .06 .04 → running maximum .02 .03 .06 .06
    corrected = holm(np.array([0.01, np.nan, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, np.nan, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm(np.array([0.7, 0.9])), [1.0, 1.0])
    assert holm(np.array([])).size == 0


def test_paired_test_is_the_exact_signed_rank_test() -> None:
    a = np.arange(1.0, 7.0)
    assert paired_test(a, np.zeros(6)) == pytest.approx(2 / 2**6)  # all six signs equal
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 20))
    assert paired_test(x, y) == pytest.approx(scipy_stats.wilcoxon(x, y).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    assert paired_test(x, y) == paired_test(y, x)
    for tied in rng.integers(-3, 4, (3, 9)).astype(float):
        expected = scipy_stats.wilcoxon(tied[tied != 0]).pvalue  # pyright: ignore[reportAttributeAccessIssue]
        assert paired_test(tied, np.zeros(9)) == pytest.approx(expected, abs=1e-12)


def test_paired_test_without_differences_or_pairs() -> None:
    assert paired_test(np.ones(5), np.ones(5)) == 1.0
    assert np.isnan(paired_test(np.array([1.0, np.nan]), np.array([0.0, 2.0])))


def test_no_rounding_decides_a_paired_test() -> None:
    """0.1 + 0.2 is not 0.3: a zero stays a zero, and equal differences stay equal."""
    zeros, rounded = np.full(4, 0.3), np.full(4, 0.1) + 0.2
    assert rounded[0] != zeros[0]
    assert paired_test(rounded, zeros) == 1.0
    x = np.array([1, -2, 3, 3, -3, 4])
    assert paired_test(0.1 * x, np.zeros(6)) == paired_test(x / 10 + 0.2, np.full(6, 0.2))


def test_ranks_and_tie_groups() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1000, 1))  # what pairing removes
    samples = shared + np.array([3.0, 1.0, 1.0, np.nan, 2.9]) + 0.1 * rng.normal(size=(1000, 5))
    samples[:, 2] = samples[:, 1]
    order = ranking(np.array([3.0, 1.0, 1.0, np.nan, 2.9]), samples)
    np.testing.assert_array_equal(order.rank, [1, 3, 3, np.nan, 2])
    np.testing.assert_array_equal(order.group, [1, 2, 2, np.nan, 1])
    np.testing.assert_array_equal(order.low, [1, 3, 3, np.nan, 1])
    np.testing.assert_array_equal(order.high, [2, 3, 3, np.nan, 2])


def test_ranks_without_replicates_have_no_interval() -> None:
    order = ranking(np.array([1.0, 2.0]), np.empty((0, 2)))
    np.testing.assert_array_equal(order.rank, [2, 1])
    assert np.isnan([*order.low, *order.high, *order.group]).all()
