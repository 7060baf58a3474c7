"""Attacks compared at the same mean SSIM: the second table of a run whose suite has the key ``ssim``.

The search has left rows at two neighbouring budgets around the wanted SSIM. In every bootstrap replicate, SSIM and
effect are averaged at both and the effect is interpolated linearly in SSIM, so that the interval holds what the choice
of images does to the SSIM as well. A budget between two grey levels cannot be had; the table says which two were run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, divide, ranking
from iqarena.report.boards import ranked
from iqarena.report.effects import RANKED
from iqarena.report.figures.study_plots import effect_against_ssim
from iqarena.report.pairs import Pairs
from iqarena.report.section import Drawing, Section
from iqarena.report.specs import without_budget
from iqarena.report.sums import Sum, mean_of, weighted_sum
from iqarena.report.text.cells import number, rank_text, tie_text, with_interval
from iqarena.report.text.table import Table
from iqarena.store.manifest import Manifest
from iqarena.suite.levels import MAX_LEVELS, bracket, level_of
from iqarena.suite.relations import HELD_OUT

NAMED = 4  # lines of the figure that are told apart for their strength


@dataclass(frozen=True)
class Point:
    """An attack at one budget, over held-out pairs."""

    level: int
    ssim: float
    ssim_samples: Floats
    effect: Sum


def same_ssim_study(pairs: Pairs, manifest: Manifest) -> Section | None:
    """Of a run whose suite wants an SSIM, else none; ``pairs`` of all budgets."""
    wanted = manifest.ssim
    if not wanted:
        return None
    tried = _points(pairs, manifest)
    matches = {attack: _matched(points, wanted, pairs) for attack, points in tried.items()}
    records = [{"attack": attack} | record for attack, (record, _) in matches.items()]
    samples = np.stack([drawn for _, drawn in matches.values()], axis=1)
    board = ranked(records, ranking(np.array([r[RANKED.name] for r in records]), samples), "attack")
    levels = pd.DataFrame(
        [
            {"attack": attack, "level": p.level, "ssim": p.ssim, **p.effect.columns()}
            for attack, points in tried.items()
            for p in points
        ]
    )
    matched = board.loc[board["rank"].notna(), "attack"].tolist()
    shown, table = levels[levels["attack"].isin(matched)], _table(board, wanted)
    draw = partial(effect_against_ssim, shown, wanted, _named(matched, manifest))
    files = {"same_ssim.csv": board, "ssim_levels.csv": levels}
    return Section(table, Drawing("same_ssim", table.title, draw), files)


def _named(attacks: list[str], manifest: Manifest) -> list[str]:
    """Whose lines the figure names: the strongest, the reference attack, and the first floor."""
    floors = {without_budget(a.label) for a in manifest.attacks if a.floor}
    references = {without_budget(a.label) for a in manifest.attacks if a.spec == manifest.reference}
    own = [attack for attack in attacks if attack in references]
    floor = [attack for attack in attacks if attack in floors]
    return list(dict.fromkeys([*attacks[:NAMED], *own[:1], *floor[:1]]))


def _points(pairs: Pairs, manifest: Manifest) -> dict[str, list[Point]]:
    """Every attack (its label without the budget) at every budget that was run, weakest first."""
    held_out = pairs.table["relation"].isin(HELD_OUT)
    rows = pairs.rows[pairs.rows["relation"].isin(HELD_OUT)]
    points: dict[str, list[Point]] = {}
    for attack in manifest.attacks:
        level = level_of(attack.eps)
        crafted = rows[rows["attack"] == attack.spec]
        if level is None or crafted["ssim"].isna().all():
            continue
        chosen = held_out & (pairs.table["attack"] == attack.spec) & pairs.table[RANKED.mean].notna()
        point = Point(
            level, crafted["ssim"].mean(), pairs.replicates(crafted, "ssim"), weighted_sum(pairs, mean_of(chosen))
        )
        points.setdefault(without_budget(attack.label), []).append(point)
    return {name: sorted(tried, key=lambda point: point.level) for name, tried in points.items()}


def _matched(points: list[Point], wanted: float, pairs: Pairs) -> tuple[dict[str, Any], Floats]:
    """The effect at the wanted SSIM and its samples; NaN when no two neighbouring budgets lie around it."""
    around = bracket({point.level: point.ssim for point in points}, wanted)
    if around is None:
        names = [f"{RANKED.name}{end}" for end in ("", "_low", "_high")]
        record = dict.fromkeys([*names, "budget"], float("nan")) | {"levels": "", "tried": _tried(points)}
        return record, np.full(len(pairs.samples), np.nan)
    weaker, stronger = (next(p for p in points if p.level == level) for level in around)
    part = (weaker.ssim - wanted) / (weaker.ssim - stronger.ssim)
    parts = divide(weaker.ssim_samples - wanted, weaker.ssim_samples - stronger.ssim_samples)
    effect = Sum(
        weaker.effect.value + part * (stronger.effect.value - weaker.effect.value),
        weaker.effect.samples + parts * (stronger.effect.samples - weaker.effect.samples),
        float("nan"),
    )
    record = {**effect.columns(), "budget": weaker.level + part}
    return record | {"levels": f"{around[0]}–{around[1]}", "tried": _tried(points)}, effect.samples


def _tried(points: list[Point]) -> str:
    return ", ".join(f"{point.level}: {point.ssim:.3f}" for point in points)


def _table(board: pd.DataFrame, wanted: float) -> Table:
    header = ["Rank", "Tie", "Attack", RANKED.title, "Budget /255", "Run at /255", "Budget: SSIM"]
    rows = [
        [
            rank_text(r), tie_text(r["tie_group"]), r["attack"], with_interval(r, RANKED.name),
            number(r["budget"], 1), r["levels"], r["tried"],
        ]
        for r in board.to_dict("records")
    ]  # fmt: skip
    note = f"""{RANKED.title} in target standard deviations on held-out pairs where the mean SSIM is {wanted:g}:
    interpolated between the two whole budgets around it. Empty: no two from 1 to {MAX_LEVELS}/255 lie around it."""
    return Table(f"Attacks at the same SSIM, {wanted:g}", header, rows, names=3, note=note, last_is_name=True)
