"""Agreement and score change against scipy, brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from iqarena.metrics.correlation import agreement, bootstrap_srocc
from iqarena.metrics.score_change import (
    aligned_effect,
    boundary_ratio,
    directed_effect,
    gain,
    relative_gain,
    robustness,
)


def test_agreement_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30)).round(1)
    got = agreement(x, y)
    assert got["srocc"] == pytest.approx(scipy_stats.spearmanr(x, y)[0])
    assert got["plcc"] == pytest.approx(scipy_stats.pearsonr(x, y)[0])
    assert got["krocc"] == pytest.approx(scipy_stats.kendalltau(x, y)[0])
    assert got["mae"] == pytest.approx(np.mean(np.abs(x - y)))
    assert got["rmse"] == pytest.approx(math.sqrt(np.mean((x - y) ** 2)))


def test_agreement_leaves_out_missing_values() -> None:
    x, y = np.array([1.0, 2.0, np.nan, 3.0]), np.array([3.0, 5.0, 0.0, 7.0])
    got = agreement(x, y)
    assert (got["srocc"], got["mae"]) == (pytest.approx(1.0), pytest.approx(3.0))


@pytest.mark.parametrize("x", [np.full(4, 50.0), 50 + 1e-12 * np.arange(4.0), np.array([50.0]), np.array([])])
def test_constant_scores_have_no_correlation_and_no_warning(x: np.ndarray) -> None:
    got = agreement(x, np.arange(float(len(x))))
    assert all(math.isnan(got[name]) for name in ("srocc", "plcc", "krocc"))
    assert math.isnan(got["mae"]) == (len(x) == 0)


def test_bootstrap_srocc_equals_the_expanded_replicates() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5, (2, 9)).astype(float)  # with ties
    weights = rng.integers(0, 3, (100, 9)).astype(float)
    weights[0], weights[1] = 0, np.eye(9)[0]  # nothing drawn, one element drawn
    got = bootstrap_srocc(x, y, weights)
    assert np.isnan(got[:2]).all()
    for k in range(2, 100):
        a, b = (np.repeat(v, weights[k].astype(int)) for v in (x, y))
        expected = np.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else scipy_stats.spearmanr(a, b)[0]
        assert got[k] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isfinite(got[2:]).sum() > 80


def test_score_changes_have_their_closed_forms() -> None:
    clean, attacked, s = np.array([80.0, 30.0]), np.array([60.0, 37.0]), np.array([-1.0, 1.0])
    np.testing.assert_allclose(gain(clean, attacked, s), [20, 7])
    np.testing.assert_allclose(relative_gain(clean, attacked), [20 / 80, 7 / 70])
    np.testing.assert_allclose(boundary_ratio(clean, attacked, s), [20 / 80, 7 / 70])
    np.testing.assert_allclose(boundary_ratio(clean, attacked, -s), [20 / 20, 7 / 30])
    np.testing.assert_allclose(robustness(clean, attacked), [math.log10(4), math.log10(10)])


def test_directed_effect_does_not_see_what_both_signs_do() -> None:
    s, drift, effect = np.array([-1.0, 1.0]), np.array([9.0, -4.0]), np.array([2.0, 3.0])
    attacked, control = 50 + drift + s * effect, 50 + drift - s * effect
    np.testing.assert_allclose(directed_effect(attacked, control, s), effect)


def test_aligned_effect_does_not_see_what_the_displaced_control_does() -> None:
    s, drift, effect = np.array([-1.0, 1.0]), np.array([9.0, -4.0]), np.array([2.0, 3.0])
    np.testing.assert_allclose(aligned_effect(50 + drift + s * effect, 50 + drift, s), effect)


def test_score_changes_at_the_ends_of_the_scale() -> None:
    assert robustness(np.array([50.0]), np.array([50.0])) == pytest.approx(math.log10(50 / 1e-6))
    assert np.isfinite(boundary_ratio(np.array([100.0]), np.array([101.0]), np.array([1.0]))).all()
