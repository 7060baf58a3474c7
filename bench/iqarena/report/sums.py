"""Weighted sums of pairs with their bootstrap replicates and paired tests: what boards and studies compare with."""

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


def difference(pairs: Pairs, ours: pd.Series, theirs: pd.Series) -> tuple[Sum, pd.Series, pd.Series]:
    """Mean effect of ``ours`` less that of ``theirs``, over the places that both were measured at, each counting once.

    A place is a source and a target; of a query pair it is the target, whatever the attack started from. Also returns
    which of the pairs took part.
    """
    table = pairs.table
    place = table["target"] + np.where(table["relation"] == "query", "", " from " + table["source"])
    ours, theirs = (chosen & table[RANKED.mean].notna() for chosen in (ours, theirs))
    ours, theirs = ours & place.isin(place[theirs]), theirs & place.isin(place[ours])
    return weighted_sum(pairs, _evenly(ours, place) - _evenly(theirs, place)), ours, theirs


def _evenly(chosen: pd.Series, place: pd.Series) -> Floats:
    counts = place[chosen].value_counts()
    return np.where(chosen, 1 / place.map(counts).fillna(1) / max(1, len(counts)), 0.0)
