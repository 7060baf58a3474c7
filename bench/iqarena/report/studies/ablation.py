"""A factorial → what every choice does: cells, main effects against the reference, a figure and a short text.

The factors are the parameters of the suite's ``[grid]``, read back from the attack's spec in the rows, and ``sources``,
the number of source models, where that varies. A level's main effect is its mean over all combinations of the other
factors and the targets, held-out pairs only, as far as all levels have them and the factor changes the images. It is
compared with the reference level (of the attack as the grid names it; the largest number of sources), paired over
reference images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from iqarena.api.spec import parse
from iqarena.metrics.statistics import Floats, holm
from iqarena.report.effects import RANKED
from iqarena.report.figures.study_plots import main_effects
from iqarena.report.pairs import KEY, Pairs
from iqarena.report.section import Drawing, Section
from iqarena.report.specs import source_size
from iqarena.report.sums import mean_of, weighted_sum
from iqarena.report.text.cells import number, p_text, p_value, with_interval
from iqarena.report.text.table import Table
from iqarena.report.verdicts import HELPED, HURT, NOT_SHOWN, REFERENCE, decided
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

_NOTE = """Held-out pairs; every level averaged over the combinations of the other factors and the targets that all
levels have and in which the factor changes the images (the number of noisy copies does not where the noise is 0). The
difference to the reference level is paired over reference images; Wilcoxon's signed-rank test, Holm over all
comparisons, 5 %, and an interval without 0 decide. What helps may also be easier to see: read it beside the SSIM."""


def ablation_study(pairs: Pairs, manifest: Manifest) -> Section | None:
    """Main effects and cells of a run whose suite has a grid, else none."""
    if not manifest.factors or not manifest.reference:
        return None
    levels, reference = factor_levels(pairs.table, manifest, manifest.reference)
    effects = pd.DataFrame(
        [r for factor, level in reference.items() for r in _main_effects(pairs, levels, factor, level)]
    )
    effects["p_holm"] = holm(effects["p"].to_numpy(float))
    effects["verdict"] = [_verdict(record) for record in effects.to_dict("records")]
    files = {"ablation.csv": _cells(pairs, levels), "main_effects.csv": effects}
    table = _table(effects, len(pairs.clusters))
    return Section(
        table, Drawing("main_effects", table.title, partial(main_effects, effects)), files, text="ablation.md"
    )


def factor_levels(table: pd.DataFrame, manifest: Manifest, reference_spec: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Each pair's level of each factor, NaN where its attack is none of the grid's; and the reference levels.

    A level counts where it is crossed with all others of the grid: one that only an attack beside the grid has is not.
    """
    own = parse(reference_spec).single
    reference = {key: str(value) for key, value in own.kwargs}
    factors = [key for key in reference if key in manifest.factors]
    of_attack: dict[str, dict[str, str]] = {}
    for spec in dict.fromkeys([*(a.spec for a in manifest.attacks), *table["attack"]]):
        call = parse(spec).single
        values = {key: str(value) for key, value in call.kwargs}
        if call.name == own.name and all(values[k] == reference[k] for k in reference if k not in factors):
            of_attack[spec] = {factor: values[factor] for factor in factors}
    crossed = {factor: Counter(levels[factor] for levels in of_attack.values()) for factor in factors}
    sizes = {factor: len(manifest.settings["grid"][factor]) for factor in factors}
    of_attack = {
        spec: levels
        for spec, levels in of_attack.items()
        if all(crossed[f][level] * sizes[f] >= prod(sizes.values()) for f, level in levels.items())
    }
    columns = {}
    for factor in factors:
        order = list(dict.fromkeys(values[factor] for values in of_attack.values()))
        columns[factor] = pd.Categorical(
            [of_attack.get(spec, {}).get(factor) for spec in table["attack"]], order, ordered=True
        )
    sizes = table["source"].map(source_size)
    numbers = sorted(sizes[table["relation"].isin(HELD_OUT)].unique())
    if len(numbers) > 1:
        columns["sources"] = pd.Categorical(sizes.astype(str), [str(n) for n in numbers], ordered=True)
        reference["sources"] = str(numbers[-1])
    return pd.DataFrame(columns), {factor: reference[factor] for factor in columns}


def _main_effects(pairs: Pairs, levels: pd.DataFrame, factor: str, reference: str) -> list[dict[str, Any]]:
    """One record a level: its mean effect, and its difference to the reference level."""
    table = pairs.table
    measured = levels.notna().all(axis=1) & table["relation"].isin(HELD_OUT) & table[RANKED.mean].notna()
    cells = levels.assign(target=table["target"])[measured]
    others = [name for name in cells if name != factor]
    groups: dict[Any, dict[Any, pd.Index]] = {
        level: dict(iter(of_level.groupby(others, observed=True).groups.items()))
        for level, of_level in cells.groupby(factor, observed=True)
    }
    shared = [key for key in next(iter(groups.values()), {}) if all(key in cells for cells in groups.values())]
    idle = _idle(pairs, cells, factor, reference)
    shared = [key for key in shared if key not in idle] or shared
    base = _weights(groups.get(reference, {}), shared, len(table))
    records = []
    for level in levels[factor].cat.categories:
        weights = _weights(groups.get(level, {}), shared, len(table))
        gap = weighted_sum(pairs, weights - base if weights.any() and base.any() else 0 * weights)
        records.append({
            "factor": factor, "level": level, "reference": reference,
            **weighted_sum(pairs, weights).columns(),
            **gap.columns("difference"), "p": gap.p,
            "ssim": float(table["ssim"].fillna(0).to_numpy() @ weights) if weights.any() else float("nan"),
            "n_pairs": int((weights > 0).sum()),
        })  # fmt: skip
    return records


def _idle(pairs: Pairs, cells: pd.DataFrame, factor: str, reference: str) -> set[Any]:
    """Combinations and targets with the same score of most images at all levels of the factor: the same images."""
    others = [name for name in cells if name != factor]
    places = cells.join(pairs.table[["attack", "source"]])
    found = places.merge(pairs.rows[[*KEY, "image", "repeat", "score_adv"]], on=KEY)
    scores = found.pivot_table("score_adv", [*others, "source", "image", "repeat"], factor, "first", observed=True)
    if reference not in scores:
        return set()
    same = scores.drop(columns=reference).eq(scores[reference], axis=0).all(axis=1)
    share = same.groupby(others, observed=True).mean()
    return set(share.index[share > 0.5])


def _weights(cells: Mapping[Any, pd.Index], shared: Sequence[Any], size: int) -> Floats:
    """Weights over the pairs: every shared combination and target counts once, every source within one alike."""
    weights = np.zeros(size)
    for places in (cells[key] for key in shared if key in cells):
        weights[places] += 1 / len(places) / len(shared)
    return weights


def _cells(pairs: Pairs, levels: pd.DataFrame) -> pd.DataFrame:
    """One line per combination and relation: the mean over its pairs."""
    table, records = pairs.table, []
    by = [*levels, "relation"]
    inside = levels.assign(relation=table["relation"])[levels.notna().all(axis=1)]
    for key, group in inside.groupby(by, observed=True):
        present = table[RANKED.mean].notna() & table.index.isin(group.index)
        effect = weighted_sum(pairs, mean_of(present))
        record = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        cell = table.loc[group.index]
        record |= effect.columns()
        records.append(record | {"ssim": cell["ssim"].mean(), "n_pairs": int(present.sum()), "n": int(cell["n"].sum())})
    return pd.DataFrame(records)


def _verdict(record: Mapping[Any, Any]) -> str:
    if record["level"] == record["reference"]:
        return REFERENCE
    if not decided(record, "difference"):
        return NOT_SHOWN
    return HELPED if record["difference"] > 0 else HURT


def _table(effects: pd.DataFrame, references: int) -> Table:
    header = ["Factor", "Level", RANKED.title, "To the reference", "p (Holm)", "SSIM", "Verdict"]
    rows = [
        [
            r["factor"], r["level"], with_interval(r, RANKED.name), with_interval(r, "difference", signed=True),
            p_value(r["p_holm"]), number(r["ssim"], 3), r["verdict"],
        ]
        for r in effects.to_dict("records")
    ]  # fmt: skip
    least = 2.0 ** (1 - references)
    note = f"{_NOTE} With {references} reference images p is at least {least:.1g} before the correction."
    summary = {}
    for verdict in (HELPED, HURT, NOT_SHOWN):
        levels = effects[effects["verdict"] == verdict].to_dict("records")
        summary[verdict.capitalize()] = "; ".join(map(_sentence, levels)) or "nothing"
    return Table("Main effects", header, rows, names=2, note=note, last_is_name=True, summary=summary)


def _sentence(r: Mapping[Any, Any]) -> str:
    change = f"{with_interval(r, 'difference', signed=True)}, {p_text(r['p_holm'])}"
    return f"{r['factor']} = {r['level']} instead of {r['reference']} ({change})"
