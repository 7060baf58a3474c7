"""Two attacks of a run side by side, on the held-out pairs that both have: what a claim "A beats B" rests on."""

from __future__ import annotations

import pandas as pd

from iqarena.errors import SpecError, nearest
from iqarena.report.effects import RANKED
from iqarena.report.pairs import Pairs
from iqarena.report.sums import difference, mean_of, weighted_sum
from iqarena.report.text.cells import number, p_value, with_interval
from iqarena.report.text.table import Table
from iqarena.suite.relations import HELD_OUT

_NOTE = (
    f"Mean {RANKED.title.lower()} in deviations of the target, on held-out pairs of the same source and target;"
    " difference with a 95 % bootstrap interval over images, p of Wilcoxon's signed-rank test over reference images,"
    " not corrected."
)


def comparison(pairs: Pairs, first: str, second: str) -> Table:
    """``first`` against ``second`` (labels as on the boards, or full specs): all pairs, and every target by itself.

    Raises :class:`SpecError` for an attack that the run does not have, and when the two share no held-out pair.
    """
    table = pairs.table
    held_out = (_of(table, name) & table["relation"].isin(HELD_OUT) for name in (first, second))
    _, a, b = difference(pairs, *held_out)
    if not a.any():
        raise SpecError(f"expected held-out pairs that both {first} and {second} were measured on, found none")
    rows = []
    for target in ["all", *sorted(table.loc[a, "target"].unique())]:
        here = (table["target"] == target) | (target == "all")
        means = (weighted_sum(pairs, mean_of(chosen & here)) for chosen in (a, b))
        gap, _, _ = difference(pairs, a & here, b & here)
        rows.append(
            [
                target,
                *(number(mean.value, 3) for mean in means),
                with_interval(gap.columns("difference"), "difference", signed=True),
                p_value(gap.p),
                str(int((a & here).sum())),
            ]
        )
    return Table(f"{first} against {second}", ["Target", first, second, "Difference", "p", "Pairs"], rows, note=_NOTE)


def _of(table: pd.DataFrame, name: str) -> pd.Series:
    named = (table["attack"] == name) | (table["attack_label"] == name)
    if not named.any():
        raise SpecError(f"this run has no attack {name!r}{nearest(name, table['attack_label'].unique())}")
    return named
