"""What a pair's numbers allow to say: tests against the reference attack, and effects that are their control's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, holm, interval, paired_test
from iqarena.report.effects import GAIN, RANKED
from iqarena.store.manifest import Manifest

REFERENCE = "reference"  # of the reference itself
STRONGER, WEAKER, UNDECIDED = "stronger", "weaker", "not decided"  # of an attack
HELPED, HURT, NOT_SHOWN = "helped", "hurt", "no difference shown"  # of a level of a factor
SIGNIFICANT = 0.05  # on Holm-corrected p-values
SHARE = 0.1  # of an effect that may be its control's before it is flagged
CONTROL_GAIN = "control_gain"  # of the displaced control, in points


def control_driven(table: pd.DataFrame, control: Floats, noise: Floats, floors: Collection[str]) -> dict[int, str]:
    """The flag, by place, of pairs a part of whose effect is damage done to their displaced control.

    ``control`` and ``noise`` are bootstrap samples ``(B, K)`` of the gain of all pairs' controls and of all pairs
    themselves, ``floors`` the specs of attacks that look at no model. A control should move the score as much as noise
    of its size does. We take the floor with the nearest ℓ2 size on the same source and target, and scale its gain by
    the ratio of the sizes. A pair with an effect is flagged where its control falls behind that, against the wanted
    direction, by more than chance (95 % interval) and by more than ``SHARE`` of the effect. Without a floor there is
    nothing to compare with.
    """
    floor = table["attack"].isin(floors)
    effect = table[GAIN.mean] - table[f"{CONTROL_GAIN}_mean"]  # the aligned effect in points
    flagged = {}
    for places in table.groupby(["source", "target"]).indices.values():
        rivals = [int(k) for k in places if floor.iloc[k] and table["changed"].iloc[k] > 0]
        for k in (int(k) for k in places if rivals and not floor.iloc[k]):
            near = min(rivals, key=lambda rival: abs(table["l2"].iloc[rival] - table["l2"].iloc[k]))
            ratio = table["l2"].iloc[k] / table["l2"].iloc[near]
            behind = ratio * table[GAIN.mean].iloc[near] - table[f"{CONTROL_GAIN}_mean"].iloc[k]
            low = interval((ratio * noise[:, near] - control[:, k])[:, None])[0, 0]
            if low > 0 and behind > SHARE * effect.iloc[k] > 0:
                flagged[k] = "control_driven"
    return flagged


def references(table: pd.DataFrame, manifest: Manifest) -> dict[bool, str]:
    """The attack that others are tested against, by its label, for query attacks (True) and for all others.

    The suite names it; a board without that attack has none, and query attacks then go against the first one listed.
    """
    queried = set(table["attack_label"][table["relation"] == "query"])
    named = next((attack.label for attack in manifest.attacks if attack.spec == manifest.reference), "")
    first = next((attack.label for attack in manifest.attacks if attack.label in queried), "")
    return {True: named if named in queried else first, False: "" if named in queried else named}


def decided(record: Mapping[Any, Any], difference: str) -> bool:
    """Whether a table's line shows a ``difference``: by its test, of ranks, and by the interval of its mean."""
    low, high = (record[f"{difference}_{end}"] for end in ("low", "high"))
    return record["p_holm"] < SIGNIFICANT and not low <= 0 <= high


def decidable(tests: int, references: int) -> bool:
    """Whether the smallest p-value that so many reference images allow survives Holm's correction over the tests."""
    return tests * 2.0 ** (1 - references) <= SIGNIFICANT


def with_tests(table: pd.DataFrame, clusters: Floats, manifest: Manifest) -> pd.DataFrame:
    """Add each pair's paired test against the reference attack on the same source and target (of queries: target).

    ``p_holm`` is corrected over all pairs; it stays empty where no pair could be decided, whatever the numbers.
    """
    effect, labels = table[RANKED.mean].to_numpy(float), table["attack_label"].to_numpy(str)
    gap, p = np.full(len(table), np.nan), np.full(len(table), np.nan)
    queried, opponents = table["relation"] == "query", references(table, manifest)
    groups = table.groupby([queried, table["source"].mask(queried, ""), "target"], sort=True).indices
    for (by_query, _, _), indices in groups.items():  # pyright: ignore[reportGeneralTypeIssues]
        places = [int(k) for k in indices]
        reference = next((k for k in places if labels[k] == opponents[bool(by_query)]), None)
        for k in (k for k in places if reference is not None and labels[k] != labels[reference]):
            gap[k] = effect[k] - effect[reference]
            p[k] = paired_test(clusters[:, k], clusters[:, reference])
    possible = decidable(int(np.isfinite(p).sum()), len(clusters))
    return table.assign(gap=gap, p=p, p_holm=holm(p) if possible else np.nan)
