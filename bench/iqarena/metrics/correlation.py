"""Agreement of two lists of scores: SROCC, PLCC, KROCC, MAE, RMSE, and a vectorised bootstrap of SROCC.

Constant or too short input has no correlation: NaN, without a warning.
"""

from __future__ import annotations

import numpy as np

from iqarena.metrics.statistics import Counts, Floats, divide, running_sum


def agreement(x: Floats, y: Floats) -> dict[str, float]:
    """``srocc plcc krocc mae rmse`` of two score lists ``(N,)``; pairs with a NaN are left out."""
    present = ~(np.isnan(x) | np.isnan(y))
    x, y = x[present], y[present]
    error = x - y
    values: dict[str, float] = {name: float("nan") for name in ("srocc", "plcc", "krocc", "mae", "rmse")}
    if len(x):
        values |= {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
    if not (_constant(x) or _constant(y)):
        from scipy.stats import kendalltau, rankdata  # its spearmanr and pearsonr spend most of their time on p-values

        values["srocc"] = float(np.corrcoef(rankdata([x, y], axis=1))[0, 1])
        values["plcc"] = float(np.corrcoef(x, y)[0, 1])
        values["krocc"] = float(kendalltau(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    return values


class BootstrapSrocc:
    """SROCC with ``x`` ``(N,)`` in each bootstrap replicate of ``weights`` ``(B, N)``, integer multiplicities.

    It equals Spearman's correlation of the lists in which every element is repeated so often.
    """

    def __init__(self, x: Floats, weights: Counts) -> None:
        self._ranks = _CentredRanks(weights)
        self._drawn = weights.T.astype(np.float64)
        ranks = self._ranks(x)
        self._of_x = ranks * self._drawn
        self._variance = np.einsum("nb,nb->b", self._of_x, ranks)

    def __call__(self, y: Floats) -> Floats:
        """Of ``y`` ``(N,)`` with ``x``, ``(B,)``; NaN where the drawn elements are constant."""
        ranks = self._ranks(y)
        variance = self._variance * np.einsum("nb,nb,nb->b", self._drawn, ranks, ranks)
        return divide(np.einsum("nb,nb->b", self._of_x, ranks), np.sqrt(variance))


def bootstrap_srocc(x: Floats, y: Floats, weights: Counts) -> Floats:
    """See :class:`BootstrapSrocc`."""
    return BootstrapSrocc(x, weights)(y)


class _CentredRanks:
    """Twice the mid-ranks ``(N, B)`` that elements have in the expanded replicates of ``weights`` ``(B, N)``, less
    their mean: whole numbers, whose sums of products are exact. Good until the next call: the arrays are used again,
    as fresh memory takes longer than the sums."""

    def __init__(self, weights: Counts) -> None:
        self._weights = weights.T
        n, replicates = self._weights.shape
        self._up_to = np.zeros((n + 1, replicates), weights.dtype)
        self._both, self._ranks = np.empty_like(self._up_to[1:]), np.empty_like(self._up_to[1:])

    def __call__(self, values: Floats) -> Counts:
        _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
        np.take(self._weights, np.argsort(index, kind="stable"), axis=0, out=self._up_to[1:], mode="clip")
        ends = running_sum(self._up_to)  # drawn up to each distinct value
        if len(counts) < len(values):
            ends = ends[np.concatenate([[0], np.cumsum(counts)])]
        both = np.add(ends[:-1], ends[1:], out=self._both[: len(counts)])
        both -= ends[-1]
        return np.take(both, index, axis=0, out=self._ranks, mode="clip")


def _constant(x: Floats) -> bool:
    return len(x) < 2 or bool(np.ptp(x) <= 1e-9 * max(1.0, float(np.abs(x).max())))
