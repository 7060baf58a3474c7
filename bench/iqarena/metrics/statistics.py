"""Statistics of a run: one cluster bootstrap shared by every table, paired tests, Holm, ranks with intervals.

Images are the sampling unit (images of one reference image stay together), so a replicate is drawn once
as a vector of multiplicities and every pair, attack and model is re-computed under the same one. Differences
between attacks are then paired by construction. Nothing here warns: what cannot be computed is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

REPLICATES = 1000
LEVEL = 0.95
FEWEST = 5  # clusters with which an interval covers what it says
_ENUMERATED = 13  # differences whose signs are all gone through


def cluster_weights(clusters: Sequence[str], seed: int, replicates: int = REPLICATES) -> Counts:
    """How often each of the N elements counts in each bootstrap replicate, ``(replicates, N)``, a view of an array
    that holds each element's counts in one piece.

    Clusters are drawn with replacement, a few less than there are: as many as make the percentile interval of a mean as
    wide as Student's, which one of as many draws as clusters is not (49 draws from 52 clusters, 10 from 13). Fewer than
    :data:`FEWEST` clusters are too few for that: the result has no rows, and every interval from it is NaN.
    """
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) < FEWEST:
        return np.empty((0, len(index)), np.int32)
    rng, n = np.random.default_rng(seed), len(names)
    size = n / _widening(n) ** 2
    sizes = np.floor(size).astype(int) + (rng.random(replicates) < size % 1)
    counts = rng.multinomial(sizes, np.full(n, 1 / n)).astype(np.int32)
    return np.ascontiguousarray(counts.T[index]).T


def _widening(n: int) -> float:
    """Student's interval of a mean of ``n`` values over the plain percentile one."""
    from scipy.stats import norm, t

    tail = (1 + LEVEL) / 2
    return float(t.ppf(tail, n - 1) / norm.ppf(tail) * np.sqrt(n / (n - 1)))


def drawn(weights: Counts, elements: NDArray[np.intp]) -> Counts:
    """``weights`` ``(B, N)`` of some of the elements, ``(B, n)``, in the memory layout of :func:`cluster_weights`."""
    if len(elements) == weights.shape[1] and (elements == np.arange(len(elements))).all():
        return weights
    return weights.T[elements].T


def running_sum(counts: Counts) -> Counts:
    """Cumulative sums along the first axis, in place; numpy's own take four times as long along that axis."""
    for before, after in pairwise(counts):
        after += before
    return counts


def weighted_mean(values: Floats, weights: Counts) -> Floats:
    """Mean of ``values`` ``(N,)`` in each replicate, ``(B,)``; NaN where no element was drawn."""
    return divide(weights @ values, weights.sum(axis=1))


def weighted_median(values: Floats, weights: Counts) -> Floats:
    """Median of ``values`` ``(N,)`` in each replicate of ``weights`` ``(B, N)``, ``(B,)``."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ordered, up_to = values[order], running_sum(weights.T[order])
    total = up_to[-1]
    # the expanded sample has `total` elements; its k-th (from 0) is the first with more than k drawn up to it
    middle = [ordered[_first_above(up_to, np.maximum(total - less, 0) // 2)] for less in (1, 0)]
    return np.where(total > 0, (middle[0] + middle[1]) / 2, np.nan)


def _first_above(rising: Counts, limits: Counts) -> NDArray[np.intp]:
    """In each column of ``rising`` ``(N, B)`` the place of the first entry above its limit, the last if none is; by
    halving: a look at every entry would take longer than all else."""
    columns = np.arange(len(limits))
    low, high = np.zeros(len(limits), np.intp), np.full(len(limits), len(rising) - 1)
    while (low < high).any():
        half = (low + high) // 2
        above = rising[half, columns] > limits
        low, high = np.where(above, low, np.minimum(half + 1, high)), np.where(above, half, high)
    return low


def mean_of_present(values: Floats, axis: int) -> Floats:
    """Mean along ``axis`` over what is not NaN; NaN where nothing is."""
    present = ~np.isnan(values)
    return divide(np.where(present, values, 0.0).sum(axis=axis), present.sum(axis=axis))


def interval(samples: Floats, level: float = LEVEL) -> Floats:
    """Percentile interval ``(2, K)`` of bootstrap ``samples`` ``(B, K)``, over the replicates that are not NaN."""
    tail = (1 - level) / 2
    return _quantiles(samples, [tail, 1 - tail], "linear")


def paired_test(a: Floats, b: Floats) -> float:
    """Two-sided Wilcoxon signed-rank p-value of ``a - b``, both ``(clusters,)``, where both are present.

    It is exact where there are few clusters. Zero differences are dropped; 1 when all are zero; NaN with fewer than two
    clusters. What another processor's rounding makes of a zero or of a tie decides nothing: a difference is zero below
    1e-12 of the larger value, and counts with nine significant digits.
    """
    from scipy.stats import rankdata, wilcoxon

    differs = np.abs(a - b) > 1e-12 * np.maximum(np.abs(a), np.abs(b))
    if (~np.isnan(a - b)).sum() < 2:
        return float("nan")
    moved = (a - b)[differs]
    scale = 10.0 ** np.floor(np.log10(np.abs(moved)))
    moved = (moved / scale).round(8) * scale
    if len(moved) > _ENUMERATED:
        return float(wilcoxon(moved).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    ranks = rankdata(np.abs(moved))
    sums = np.array(list(product((-1, 1), repeat=len(moved)))) @ ranks  # scipy takes half a second where there are ties
    return float((np.abs(sums) >= abs(np.sign(moved) @ ranks)).mean())


def holm(p: Floats) -> Floats:
    """Holm's step-down correction of p-values ``(K,)``; NaN stay NaN and are not counted."""
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


@dataclass(frozen=True)
class Ranking:
    """Rank 1 = best, its interval, and the tie group, each ``(K,)``; NaN where there is no value."""

    rank: Floats
    low: Floats
    high: Floats
    group: Floats


def ranking(values: Floats, samples: Floats, level: float = LEVEL) -> Ranking:
    """Rank ``values`` ``(K,)``, largest first, with bootstrap ``samples`` ``(B, K)`` of them.

    A tie group is a leader and those after it whose paired difference to it has an interval that reaches 0;
    the first that is separated leads the next group.
    """
    from scipy.stats import rankdata

    def ranks(v: Floats) -> Floats:
        return np.asarray(rankdata(-v, method="min", axis=-1, nan_policy="omit"), dtype=np.float64)

    tail = (1 - level) / 2
    replicate_ranks = ranks(samples) if samples.size else samples
    low, high = _quantiles(replicate_ranks, [tail, 1 - tail], "inverted_cdf")
    group, number, leader = np.full(len(values), np.nan), 0, -1
    if len(samples):
        for k in (k for k in np.argsort(-values, kind="stable") if not np.isnan(values[k])):
            gap = samples[:, [leader]] - samples[:, [k]]
            if number == 0 or _quantiles(gap, [tail], "linear")[0, 0] > 0:
                number, leader = number + 1, int(k)
            group[k] = number
    return Ranking(ranks(values) if len(values) else values, low, high, group)


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Element-wise quotient; NaN, without a warning, where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) != 0)


def _quantiles(samples: Floats, q: Sequence[float], method: str) -> Floats:
    result = np.full((len(q), samples.shape[1]), np.nan)
    known = ~np.isnan(samples).all(axis=0)
    if known.any():
        result[:, known] = np.nanquantile(samples[:, known], q, axis=0, method=method)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return result
