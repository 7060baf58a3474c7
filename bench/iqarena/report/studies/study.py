"""What some suites report beyond the boards, and the weighted sums of pairs that such tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, interval, paired_test
from iqarena.report.pairs import Pairs
from iqarena.report.text.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Study:
    """A further table with its figure and the CSV files behind it; ``text`` names a Markdown file of its own."""

    name: str
    table: Table
    figure: Figure
    files: Mapping[str, pd.DataFrame]
    text: str = ""


@dataclass(frozen=True)
class Sum:
    """A weighted sum of the mean directed effects of pairs: a mean over some of them, or a difference of such means."""

    value: float
    samples: Floats  # (B,) bootstrap replicates
    p: float  # two-sided, Wilcoxon's signed-rank test of the sum's values on single photographs against 0

    def columns(self, name: str) -> dict[str, float]:
        low, high = interval(self.samples[:, None])[:, 0]
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


def weighted_sum(pairs: Pairs, weights: Floats) -> Sum:
    """``weights`` ``(K,)``, one per pair; what is missing in a pair of weight 0 plays no part."""
    used = weights != 0
    if not used.any():
        return Sum(float("nan"), np.full(len(pairs.samples), np.nan), float("nan"))
    some, effect = weights[used], pairs.table["directed_sd_mean"].to_numpy(float)
    photographs = pairs.clusters[:, used]
    p = paired_test(photographs @ some.clip(min=0), photographs @ -some.clip(max=0))
    return Sum(float(effect[used] @ some), pairs.samples[:, used] @ some, p)


def mean_of(chosen: pd.Series) -> Floats:
    """Weights of a plain mean over the chosen pairs."""
    return chosen.to_numpy(float) / max(1, int(chosen.sum()))
