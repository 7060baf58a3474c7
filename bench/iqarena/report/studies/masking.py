"""Signs that a defense hides its gradient instead of being hard to fool, read from the rows.

After the warnings of AutoAttack (Croce, Hein, *Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks*, ICML 2020, arXiv 2003.01690) and the list of Athalye, Carlini and Wagner
(arXiv 1802.00420). A sign is no proof: the number that raised it stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from iqarena.api.spec import Call, parse
from iqarena.metrics.statistics import interval
from iqarena.report.pairs import ALL_ZERO, Pairs, behind
from iqarena.report.text.tables import Table, short_source
from iqarena.store.manifest import Manifest

BLIND = ("transfer", "same_scorer", "ensemble_holdout")
Sign = tuple[str, str]  # what it is called, and the numbers that raised it


def signs(pairs: Pairs, target: str, manifest: Manifest) -> list[Sign]:
    """The signs of gradient masking on one target, with their numbers."""
    eps = {attack.label: attack.eps for attack in manifest.attacks}
    table = pairs.table[(pairs.table["target"] == target) & (pairs.table["n"] > 0)]
    table = table[table["backwards"] + table["queries"] > 0].assign(eps=lambda t: t["attack_label"].map(eps))
    white = table[table["relation"] == "whitebox"]
    found = list(_stronger(pairs, table[table["relation"].isin(BLIND)], white, "transfer_beats_whitebox"))
    found += _stronger(pairs, table[table["relation"] == "query"], white, "query_beats_whitebox")
    found += _budget_not_stronger(table[table["relation"].isin(("whitebox", "query"))])
    zero = _rows(pairs, white)["zero_gradient"].dropna()
    if (zero > ALL_ZERO).any():
        found.append(("zero_gradient", f"zero everywhere on {100 * (zero > ALL_ZERO).mean():.0f} % of the pictures"))
    facts = manifest.model(target)
    if facts.random_defense or facts.stochastic:
        gap = table["float_gap"][table["float_gap"] > 0].mean()
        moved = "" if pd.isna(gap) else f"; rounding the attacked picture to 8 bits moves the score by {gap:.2f} points"
        found.append(("random_scores", f"declared random{moved}"))
    return found


def masking_table(pairs: Pairs, manifest: Manifest) -> Table | None:
    """Every sign of gradient masking with the numbers that raised it; none when no target is defended."""
    defended = [t for t in manifest.targets if behind(t)[0]]
    found = [(t, *sign) for t in defended for sign in signs(pairs, t, manifest)]
    if not found:
        return None
    rows = [[manifest.model(t).label, name, numbers] for t, name, numbers in found]
    note = "Signs that a defense hides its gradient, so that its white-box number says little. A sign is no proof; "
    note += "a random defense is always named, because its gradient is an average over draws."
    return Table("Gradient masking suspected", ["Target", "Sign", "Numbers"], rows, names=3, note=note)


def _stronger(pairs: Pairs, others: pd.DataFrame, white: pd.DataFrame, name: str) -> Iterator[Sign]:
    """An attack that sees less gains more, at no larger a budget than some white-box attack has."""
    others = others[others["eps"] <= white["eps"].max()]
    if others.empty or white.empty:
        return
    ours, theirs = strongest(others), strongest(white)
    gap = ours["gain_mean"] - theirs["gain_mean"]
    samples = [pairs.replicates(_rows(pairs, pd.DataFrame([one])), "gain") for one in (ours, theirs)]
    low, high = interval((samples[0] - samples[1])[:, None])[:, 0]
    if gap > 0 and not low <= 0:
        yield (
            name,
            (
                f"{said(ours)} gains {ours['gain_mean']:.1f} points, "
                f"white-box {theirs['attack_label']} {theirs['gain_mean']:.1f} (difference [{low:.1f}, {high:.1f}])"
            ),
        )


def _budget_not_stronger(table: pd.DataFrame) -> Iterator[Sign]:
    """The same attack with a larger ``eps`` gains no more."""
    for _, same in table.groupby(["relation", "source", table["attack"].map(_without_eps)], sort=True):
        ordered: Sequence[dict[Any, Any]] = same.sort_values("eps").to_dict("records")
        for small, large in pairwise(ordered):
            if large["eps"] > small["eps"] and not large["gain_mean"] > small["gain_mean"]:
                yield (
                    "budget_not_stronger",
                    (
                        f"{large['relation']} {large['attack_label']} gains {large['gain_mean']:.1f} points, "
                        f"{small['attack_label']} {small['gain_mean']:.1f}"
                    ),
                )


def strongest(table: pd.DataFrame) -> pd.Series:
    """The line with the largest mean gain; the first of equals."""
    return table.nlargest(1, "gain_mean").iloc[0]


def said(pair: pd.Series) -> str:
    """An attack and, where it is another than the target, its source."""
    elsewhere = pair["relation"] in BLIND
    return f"{pair['attack_label']} from {short_source(pair['source'])}" if elsewhere else str(pair["attack_label"])


def _rows(pairs: Pairs, some: pd.DataFrame) -> pd.DataFrame:
    """The rows behind some lines of the pairs."""
    keys = some[["attack", "source", "target"]]
    return pairs.rows[pairs.rows["ok"]].merge(keys, on=["attack", "source", "target"])


def _without_eps(spec: str) -> str:
    call = parse(spec).single
    return str(Call(call.name, call.args, tuple((key, value) for key, value in call.kwargs if key != "eps")))
