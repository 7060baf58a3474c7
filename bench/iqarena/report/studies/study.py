"""Weighted sums of pairs with their bootstrap replicates and paired tests: what the tables of studies are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, interval, paired_test
from iqarena.report.effects import RANKED
from iqarena.report.pairs import Pairs


@dataclass(frozen=True)
class Sum:
    """A weighted sum of the mean effects of pairs: a mean over a part of them, or a difference of such means."""

    value: float
    samples: Floats  # (B,) bootstrap replicates
    p: float  # two-sided, Wilcoxon's signed-rank test of the sum's values on single reference images against 0

    def columns(self, name: str = RANKED.name) -> dict[str, float]:
        """Value and 95 % interval as columns of a table."""
        low, high = interval(self.samples[:, None])[:, 0]
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


def weighted_sum(pairs: Pairs, weights: Floats) -> Sum:
    """``weights`` ``(K,)``, one per pair; what is missing in a pair of weight 0 plays no part."""
    used = weights != 0
    if not used.any():
        return Sum(float("nan"), np.full(len(pairs.samples), np.nan), float("nan"))
    parts, effect = weights[used], pairs.table[RANKED.mean].to_numpy(float)
    by_reference = pairs.clusters[:, used]
    p = paired_test(by_reference @ parts.clip(min=0), by_reference @ -parts.clip(max=0))
    return Sum(float(effect[used] @ parts), pairs.samples[:, used] @ parts, p)


def mean_of(chosen: pd.Series) -> Floats:
    """Weights of a plain mean over the chosen pairs."""
    return chosen.to_numpy(float) / max(1, int(chosen.sum()))
