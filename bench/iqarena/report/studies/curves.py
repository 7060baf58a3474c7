"""Cost–gain curves: what an attack has reached after so many model evaluations, transfer and query attacks alike.

A query attack is a curve through its answers on the way; an attack that takes gradients alone is one point at its
forward and backward passes. A warm start has paid for its start before its first query, and has no point before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from iqarena.metrics.correlation import agreement, bootstrap_srocc
from iqarena.metrics.statistics import Counts, Floats, drawn, interval, mean_of_present, weighted_mean
from iqarena.report.effects import GAIN, RANKED, effects
from iqarena.report.pairs import KEY, Pairs
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

NAMES = ["attack_label", "relation", "target", "queries", "evaluations"]
STATISTICS = [GAIN.name, RANKED.name, "srocc"]
ALL = "mean of targets"


def curve_table(pairs: Pairs, manifest: Manifest) -> pd.DataFrame:
    """``curves.csv``: a line per attack, target and cost, and one per attack and cost for the mean of its pairs.

    ``queries`` of the target; ``evaluations`` are queries plus forward and backward passes of the sources. Gain,
    ranked effect and SROCC carry 95 % intervals from the bootstrap that all tables share. White-box pairs are left
    out; single-source and ensemble pairs are both held out and stand together.
    """
    budgets = {attack.label: attack.queries for attack in manifest.attacks}
    rows = pairs.rows[pairs.rows["ok"] & pairs.rows["relation"].isin((*HELD_OUT, "query"))]
    points: dict[tuple[Any, ...], list[tuple[Floats, Floats]]] = {}
    for (_, _, target), group in rows.groupby(KEY, sort=True, observed=True):
        first, counts = group.iloc[0], drawn(pairs.weights, group["unit"].to_numpy())
        label, queried = str(first["attack_label"]), first["relation"] == "query"
        passes = group["forwards"].mean() + group["backwards"].mean()
        for at, attacked, displaced in _answers(group, budgets.get(label, 0) if queried else 0, passes):
            values = _statistics(group, attacked, displaced, counts)
            for name in (target, ALL):
                key = (label, "query" if queried else "held-out", name, at, at + passes)
                points.setdefault(key, []).append(values)
    return pd.DataFrame([_line(*point) for point in points.items()]).sort_values(NAMES, ignore_index=True)


def _answers(group: pd.DataFrame, budget: int, passes: float) -> Iterator[tuple[int, str, str]]:
    """(queries, score column, column of the displaced control) of each answer that was kept, the last included."""
    if budget and not passes:
        yield 0, "score_clean", "score_clean"
    marks = sorted(int(m[1]) for name in group.columns if (m := re.fullmatch(r"score_at_(\d+)", name)))
    for at in marks:
        if at < budget and group[f"score_at_{at}"].notna().all():
            yield at, f"score_at_{at}", f"displaced_at_{at}"
    yield budget, "score_adv", "score_displaced"


def _statistics(group: pd.DataFrame, attacked: str, displaced: str, counts: Counts) -> tuple[Floats, Floats]:
    """Values ``(3,)`` and bootstrap samples ``(B, 3)`` of ``STATISTICS`` for one pair."""
    names = ("score_clean", attacked, displaced, "direction", "deviation")
    clean, adversarial, control, s, deviation = (group[c].to_numpy(float) for c in names)
    by_name = effects(clean, adversarial, control, None, s, deviation)
    shown = [by_name[GAIN.name], by_name[RANKED.name]]
    values = np.array([*(effect.mean() for effect in shown), agreement(clean, adversarial)["srocc"]])
    samples = [*(weighted_mean(effect, counts) for effect in shown), bootstrap_srocc(clean, adversarial, counts)]
    return values, np.stack(samples, axis=1)


def _line(key: tuple[Any, ...], pairs: list[tuple[Floats, Floats]]) -> dict[str, Any]:
    values = mean_of_present(np.stack([value for value, _ in pairs]), axis=0)
    low, high = interval(mean_of_present(np.stack([sample for _, sample in pairs], axis=2), axis=2))
    line: dict[str, Any] = dict(zip(NAMES, key, strict=True)) | {"n_pairs": len(pairs)}
    for k, name in enumerate(STATISTICS):
        line |= {name: values[k], f"{name}_low": low[k], f"{name}_high": high[k]}
    return line
