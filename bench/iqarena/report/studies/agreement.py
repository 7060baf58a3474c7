"""Why attacks transfer: how far a perturbation agrees with the gradient of the target it has never seen.

Means over held-out pairs of the diagnostic columns, and the rank correlation of mean cosine and effect, once over all
points (dominated by differences between pairs) and once among the attacks within each pair. Attacks that look at no
model take no part: they lie at the origin, and would raise it by being there.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from iqarena.report.effects import RANKED
from iqarena.report.figures.study_plots import effect_against_agreement
from iqarena.report.pairs import WHY, Pairs, looks_at_a_model
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
    over_all, within = _rank_correlations(real)
    title = f"Spearman's ρ = {over_all}" if over_all else "Too few pairs for a correlation"
    over = (
        f"{title} of mean cosine and {RANKED.title.lower()}, over {len(real)} points: held-out pairs × attacks with a"
        " source."
    )
    if within:
        over += f" Among the attacks of one pair, ranked within it: ρ = {within}."
    columns = [name for name in WHY if name in table]
    means = held_out.groupby("attack_label")[[*columns, RANKED.mean]].mean().dropna(subset=["energy_low"])
    means = means.sort_values(RANKED.mean, ascending=False).reset_index()
    table = _table(means, over)
    draw = partial(effect_against_agreement, points, f"Agreement and effect: {title}")
    return Section(table, Drawing("agreement", table.title, draw))


def _rank_correlations(real: pd.DataFrame) -> list[str]:
    """Spearman's correlation over all points, and with ranks within each source and target; nothing where there are
    too few."""
    if len(real) < 3:
        return ["", ""]
    pair, both = ["source", "target"], ["cosine", RANKED.mean]
    several = real.groupby(pair).filter(lambda points: len(points) > 2)
    within = several.groupby(pair)[both].transform(lambda values: values.rank() - (len(values) + 1) / 2)
    return [number(ranks["cosine"].corr(ranks[RANKED.mean])) for ranks in (real[both].rank(), within)]


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
    (white noise: 0.09, 0.26, 0.65). Kept: share of the energy that the attack's filters let through. ρ describes these
    points and has no interval: resampling images adds noise, which a rank correlation takes for disagreement."""
    return Table("Why it transfers", header, rows, note=note, summary={"Rank correlation": over}, details=True)
