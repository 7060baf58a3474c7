"""Agreement of two lists of scores: SROCC, PLCC, KROCC, MAE, RMSE, and a vectorised bootstrap of SROCC.

Constant or too short input has no correlation: NaN, without a warning.
"""

from __future__ import annotations

import numpy as np

from iqarena.metrics.statistics import Floats, divide


def agreement(x: Floats, y: Floats) -> dict[str, float]:
    """``srocc plcc krocc mae rmse`` of two score lists ``(N,)``; pairs with a NaN are left out."""
    present = ~(np.isnan(x) | np.isnan(y))
    x, y = x[present], y[present]
    error = x - y
    values: dict[str, float] = {name: float("nan") for name in ("srocc", "plcc", "krocc", "mae", "rmse")}
    if len(x):
        values |= {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
    if not (_constant(x) or _constant(y)):
        from scipy.stats import kendalltau, pearsonr, spearmanr

        values["srocc"] = float(spearmanr(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
        values["plcc"] = float(pearsonr(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
        values["krocc"] = float(kendalltau(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    return values


def bootstrap_srocc(x: Floats, y: Floats, weights: Floats) -> Floats:
    """SROCC of ``x`` and ``y`` ``(N,)`` in each bootstrap replicate, ``(B,)``.

    ``weights`` ``(B, N)`` are integer multiplicities: the result equals Spearman's correlation of the lists
    in which every element is repeated so often. NaN where the drawn elements are constant.
    """
    a, b = _ranks(x, weights), _ranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    a -= divide((weights * a).sum(axis=1, keepdims=True), total)
    b -= divide((weights * b).sum(axis=1, keepdims=True), total)
    variance = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
    return divide((weights * a * b).sum(axis=1), np.sqrt(variance))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-ranks ``(B, N)`` that the elements have in the expanded replicates."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    drawn = np.zeros((len(weights), len(values) + 1))
    np.cumsum(weights[:, order], axis=1, out=drawn[:, 1:])
    ends = drawn[:, np.concatenate([[0], np.cumsum(counts)])]  # drawn up to each distinct value
    return ((ends[:, :-1] + ends[:, 1:] + 1) / 2)[:, index]


def _constant(x: Floats) -> bool:
    return len(x) < 2 or bool(np.ptp(x) <= 1e-9 * max(1.0, float(np.abs(x).max())))
