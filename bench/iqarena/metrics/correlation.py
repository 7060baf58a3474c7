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
        self._weights, self._drawn = weights, weights.T.astype(np.float64)
        self._x = _centred_ranks(x, weights)
        self._of_x = self._x * self._drawn
        self._variance = np.einsum("nb,nb->b", self._of_x, self._x)

    def __call__(self, y: Floats) -> Floats:
        """Of ``y`` ``(N,)`` with ``x``, ``(B,)``; NaN where the drawn elements are constant."""
        ranks = _centred_ranks(y, self._weights)
        variance = self._variance * np.einsum("nb,nb,nb->b", self._drawn, ranks, ranks)
        return divide(np.einsum("nb,nb->b", self._of_x, ranks), np.sqrt(variance))


def bootstrap_srocc(x: Floats, y: Floats, weights: Counts) -> Floats:
    """See :class:`BootstrapSrocc`."""
    return BootstrapSrocc(x, weights)(y)


def _centred_ranks(values: Floats, weights: Counts) -> Floats:
    """Twice the mid-ranks ``(N, B)`` that the elements have in the expanded replicates, less their mean: whole numbers,
    whose sums of products are exact."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    up_to = np.zeros((len(values) + 1, len(weights)), weights.dtype)
    np.take(weights.T, np.argsort(index, kind="stable"), axis=0, out=up_to[1:])
    ends = running_sum(up_to)[np.concatenate([[0], np.cumsum(counts)])]  # drawn up to each distinct value
    return ((ends[:-1] + ends[1:])[index] - ends[-1]).astype(np.float64)


def _constant(x: Floats) -> bool:
    return len(x) < 2 or bool(np.ptp(x) <= 1e-9 * max(1.0, float(np.abs(x).max())))
