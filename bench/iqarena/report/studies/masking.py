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

from iqarena.metrics.statistics import interval
from iqarena.report.effects import GAIN
from iqarena.report.pairs import ALL_ZERO, KEY, Pairs, looks_at_a_model
from iqarena.report.specs import short_source, split_target, without_budget
from iqarena.report.text.table import Table
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

UNSEEN = (*HELD_OUT, "same_scorer")
Sign = tuple[str, str]  # what it is called, and the numbers that raised it


def signs(pairs: Pairs, target: str, manifest: Manifest) -> list[Sign]:
    """The signs of gradient masking on one target, with their numbers."""
    eps = {attack.label: attack.eps for attack in manifest.attacks}
    table = pairs.table[(pairs.table["target"] == target) & (pairs.table["n"] > 0)]
    table = table[looks_at_a_model(table)].assign(eps=lambda t: t["attack_label"].map(eps))
    white = table[table["relation"] == "whitebox"]
    raised = list(_stronger(pairs, table[table["relation"].isin(UNSEEN)], white, "transfer_beats_whitebox"))
    raised += _stronger(pairs, table[table["relation"] == "query"], white, "query_beats_whitebox")
    raised += _budget_not_stronger(table[table["relation"].isin(("whitebox", "query"))])
    zero = _rows(pairs, white)["zero_gradient"].dropna()
    if (zero > ALL_ZERO).any():
        raised.append(("zero_gradient", f"zero everywhere on {100 * (zero > ALL_ZERO).mean():.0f} % of the images"))
    facts = manifest.model(target)
    if facts.random_defense or facts.stochastic:
        gap = table["float_gap"][table["float_gap"] > 0].mean()
        moved = "" if pd.isna(gap) else f"; rounding the attacked image to 8 bits moves the score by {gap:.2f} points"
        raised.append(("random_scores", f"declared random{moved}"))
    return raised


def masking_table(pairs: Pairs, manifest: Manifest) -> Table | None:
    """Every sign of gradient masking with the numbers that raised it; none when no target is defended."""
    defended = [t for t in manifest.targets if split_target(t)[0]]
    raised = [(t, *sign) for t in defended for sign in signs(pairs, t, manifest)]
    if not raised:
        return None
    rows = [[manifest.model(t).label, name, numbers] for t, name, numbers in raised]
    note = "Signs that a defense hides its gradient, so that its white-box number says little. A sign is no proof; "
    note += "a random defense is always named, because its gradient is an average over draws."
    return Table("Gradient masking suspected", ["Target", "Sign", "Numbers"], rows, names=3, note=note)


def _stronger(pairs: Pairs, others: pd.DataFrame, white: pd.DataFrame, name: str) -> Iterator[Sign]:
    """An attack that sees less gains more, at no larger a budget than some white-box attack has."""
    others = others[others["eps"] <= white["eps"].max()]
    if others.empty or white.empty:
        return
    other, own = strongest(others), strongest(white)
    gap = other[GAIN.mean] - own[GAIN.mean]
    samples = [pairs.replicates(_rows(pairs, pd.DataFrame([pair])), GAIN.name) for pair in (other, own)]
    low, high = interval((samples[0] - samples[1])[:, None])[:, 0]
    if gap > 0 and not low <= 0:
        yield (
            name,
            f"{attack_and_source(other)} gains {other[GAIN.mean]:.1f} points, "
            f"white-box {own['attack_label']} {own[GAIN.mean]:.1f} (difference [{low:.1f}, {high:.1f}])",
        )


def _budget_not_stronger(table: pd.DataFrame) -> Iterator[Sign]:
    """The same attack with a larger ``eps`` gains no more."""
    for _, same in table.groupby(["relation", "source", table["attack"].map(without_budget)], sort=True):
        ordered: Sequence[dict[Any, Any]] = same.sort_values("eps").to_dict("records")
        for small, large in pairwise(ordered):
            if large["eps"] > small["eps"] and not large[GAIN.mean] > small[GAIN.mean]:
                yield (
                    "budget_not_stronger",
                    f"{large['relation']} {large['attack_label']} gains {large[GAIN.mean]:.1f} points, "
                    f"{small['attack_label']} {small[GAIN.mean]:.1f}",
                )


def strongest(table: pd.DataFrame) -> pd.Series:
    """The line with the largest mean gain; the first of equals."""
    return table.nlargest(1, GAIN.mean).iloc[0]


def attack_and_source(pair: pd.Series) -> str:
    """An attack and, where it is another than the target, its source."""
    elsewhere = pair["relation"] in UNSEEN
    return f"{pair['attack_label']} from {short_source(pair['source'])}" if elsewhere else str(pair["attack_label"])


def _rows(pairs: Pairs, lines: pd.DataFrame) -> pd.DataFrame:
    """The rows behind these lines of the pairs."""
    return pairs.rows[pairs.rows["ok"]].merge(lines[KEY], on=KEY)
