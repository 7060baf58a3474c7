"""How much of a transfer is kinship: the same attacks between scorers that share a network, and others.

Published scorers often share a pretrained one, and the outsider that an attacker meets does not; so pairs of relatives
are never held out, and stand here. A scorer that was trained on with a defense is the nearest relative of what it was.
"""

from __future__ import annotations

from iqarena.report.effects import GAIN, RANKED
from iqarena.report.pairs import Pairs
from iqarena.report.specs import source_size
from iqarena.report.sums import mean_of, weighted_sum
from iqarena.report.text.cells import number, with_interval
from iqarena.report.text.table import Table
from iqarena.suite.relations import HELD_OUT, RELATED, only_relatives

_NOTE = f"""Single sources. Mean {RANKED.title.lower()} in deviations of the target, with 95 % intervals, on pairs that
share a network, pretrained or their own behind a defense (relatives), and on pairs that share none (strangers, the
held-out ones), of undefended targets; gain in points."""


def relatives_table(pairs: Pairs) -> Table | None:
    """Of a run with relatives, else none; targets that only relatives attack are named."""
    table = pairs.table
    single = (table["source"].map(source_size) == 1) & (table["defense"] == "") & table[RANKED.mean].notna()
    kinds = [single & table["relation"].isin(RELATED), single & table["relation"].isin(HELD_OUT)]
    if not (kinds[0].any() or (table["relation"] == "same_backbone").any()):
        return None
    rows = []
    for label in table["attack_label"].unique():
        parts = [kind & (table["attack_label"] == label) for kind in kinds]
        relatives, strangers = (weighted_sum(pairs, mean_of(part)) for part in parts)
        both = [weighted_sum(pairs, mean_of(parts[0]) - mean_of(parts[1]))] if all(map(any, parts)) else []
        rows.append(
            [
                label,
                *(with_interval(effect.columns(), RANKED.name) for effect in (relatives, strangers)),
                "".join(with_interval(gap.columns("gap"), "gap", signed=True) for gap in both),
                *(number(table[GAIN.mean][part].mean(), 1) for part in parts),
                *(str(int(part.sum())) for part in parts),
            ]
        )
    met = {str(target): set(of_target) for target, of_target in table.groupby("target")["relation"]}
    alone = [target for target, of_target in met.items() if only_relatives(of_target)]
    header = ["Attack", "Relatives", "Strangers", "Difference", "Gain (relatives)", "Gain (strangers)"]
    header += ["Pairs (relatives)", "Pairs (strangers)"]
    summary = {"Attacked by relatives alone, and so on no held-out board": ", ".join(alone)} if alone else {}
    return Table("Relatives and strangers", header, rows, note=_NOTE, summary=summary)
