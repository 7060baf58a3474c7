"""Why attacks transfer: how far a perturbation agrees with the gradient of the target it has never seen.

Means over held-out pairs of the diagnostic columns, and the rank correlation, over pairs and attacks, of the mean
cosine with the effect. Attacks that look at no model take no part in the correlation: they lie at the origin,
and would raise it by being there.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, interval
from iqarena.report.effects import RANKED
from iqarena.report.figures.study_plots import effect_against_agreement
from iqarena.report.pairs import KEY, WHY, Pairs, looks_at_a_model
from iqarena.report.section import Drawing, Section
from iqarena.report.text.cells import number
from iqarena.report.text.table import Table
from iqarena.suite.relations import HELD_OUT

_SHOWN = {
    "cosine": "Cosine", "sign_agreement": "Equal signs", "energy_low": "Low", "energy_middle": "Middle",
    "energy_high": "High", "filter_kept": "Gradient kept", "mask_kept": "Mask kept",
}  # fmt: skip


def agreement_study(pairs: Pairs) -> Section | None:
    """Of a run whose suite has diagnostics, else none."""
    table = pairs.table
    if "cosine" not in table:
        return None
    held_out = table[table["relation"].isin(HELD_OUT)]
    points = held_out.dropna(subset=["cosine", RANKED.mean])
    points = points.assign(floor=~looks_at_a_model(points))
    real = points[~points["floor"]]
    value, (low, high) = _rank_correlation(pairs, real)
    title = f"Spearman's ρ = {number(value)}" if len(real) > 2 else "Too few pairs for a correlation"
    if not np.isnan(low):
        title += f" [{number(low)}, {number(high)}]"
    over = (
        f"{title} of mean cosine and {RANKED.title.lower()}, over {len(real)} points: held-out pairs × attacks with a"
        " source."
    )
    columns = [name for name in WHY if name in table]
    means = held_out.groupby("attack_label")[[*columns, RANKED.mean]].mean().dropna(subset=["energy_low"])
    means = means.sort_values(RANKED.mean, ascending=False).reset_index()
    table = _table(means, over)
    draw = partial(effect_against_agreement, points, f"Agreement and effect: {title}")
    return Section(table, Drawing("agreement", table.title, draw))


def _rank_correlation(pairs: Pairs, real: pd.DataFrame) -> tuple[float, Floats]:
    """Spearman's correlation over the pairs, and its interval from the bootstrap over reference images."""
    if len(real) < 3:
        return float("nan"), np.full(2, np.nan)
    groups = pairs.rows.groupby(KEY, sort=True, observed=True)
    cosines = [
        pairs.replicates(groups.get_group(key), "cosine") for key in real[KEY].itertuples(index=False, name=None)
    ]
    drawn = _spearman(np.stack(cosines, axis=1), pairs.samples[:, real.index])
    value = _spearman(real["cosine"].to_numpy()[None], real[RANKED.mean].to_numpy()[None])
    return float(value[0]), interval(drawn[:, None])[:, 0]


def _spearman(x: Floats, y: Floats) -> Floats:
    """Line by line, ``(B, K)`` twice → ``(B,)``; NaN for lines with a NaN."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1, nan_policy="propagate") for values in (x, y)]
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def _table(means: pd.DataFrame, over: str) -> Table:
    shown = [name for name in _SHOWN if name in means]
    header = ["Attack", RANKED.title, *(_SHOWN[name] for name in shown)]
    digits = {"cosine": 4, "sign_agreement": 3}
    rows = [
        [r["attack_label"], number(r[RANKED.mean]), *(number(r[name], digits.get(name, 2)) for name in shown)]
        for r in means.to_dict("records")
    ]
    note = """Means over held-out pairs. Cosine and equal signs are those of the stored perturbation and the target's
    own gradient at the clean image (by chance 0 and 0.5). Low, middle, high: shares of the perturbation's energy
    (white noise: 0.09, 0.26, 0.65). Kept: share of the energy that the attack's filters let through."""
    return Table("Why it transfers", header, rows, note=note, summary={"Rank correlation": over}, details=True)
