"""Pairs → defenses: what each takes from the strongest attack, what it costs, and whether to believe it.

A defended scorer is compared with the same scorer undefended, on the same images and in the same bootstrap
replicates. The strongest attack of a target is the pair with the largest mean gain among all that look at a model:
transfer, white-box through the defense, and queries; it is taken as fixed in the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from iqarena.api.spec import parse
from iqarena.metrics.correlation import agreement, bootstrap_srocc
from iqarena.metrics.score_change import robustness
from iqarena.metrics.statistics import Floats, divide, drawn, interval, ranking, weighted_mean
from iqarena.report.boards import ranked
from iqarena.report.effects import GAIN
from iqarena.report.figures.defense_plot import trade_off
from iqarena.report.pairs import KEY, Pairs, looks_at_a_model
from iqarena.report.section import Drawing, Section
from iqarena.report.specs import split_target
from iqarena.report.studies.masking import Sign, attack_and_source, signs, strongest
from iqarena.report.text.defense_table import RELATIONS, defense_table
from iqarena.store.manifest import Manifest

VALUES = (
    "gain_cut", "gain", "gain_sd", "srocc_kept", "mae", "r", "srocc_to_undefended", "shift", "mos_srocc",
    "mos_srocc_lost", "slowdown", "certified",
)  # fmt: skip
Value = tuple[float, Floats]  # and its bootstrap replicates (B,)


@dataclass(frozen=True)
class Measured:
    """One target: numbers, numbers with replicates, and the signs of gradient masking."""

    names: dict[str, Any]
    values: dict[str, Value]
    signs: list[Sign]


def defense_study(pairs: Pairs, manifest: Manifest) -> Section | None:
    """The board of defenses with its figure; none when no target is defended."""
    targets = [t for t in manifest.targets if (pairs.table["target"] == t).any()]
    if not any(split_target(target)[0] for target in targets):
        return None
    scorers = {scorer for defense, scorer in map(split_target, targets) if defense}
    measured = [_measure(pairs, t, manifest) for t in targets if split_target(t)[1] in scorers]
    each = pd.DataFrame([m.names | _columns(m.values) | {"masking": _text(m.signs)} for m in measured])
    board = _board(measured)
    files = {"leaderboard_defenses.csv": board, "defenses_by_scorer.csv": each}
    table = defense_table(board)
    return Section(table, Drawing("defenses", table.title, partial(trade_off, board)), files)


def _measure(pairs: Pairs, target: str, manifest: Manifest) -> Measured:
    facts = manifest.model(target)
    defense, scorer = split_target(target)
    nan = float("nan")
    names: dict[str, Any] = {
        "defense": defense,
        "label": "|".join(map(str, parse(facts.label).calls[:-1])) or "undefended",
        "scorer": scorer,
        "random": facts.random_defense,
        "trained": facts.hardened,
        "training_seconds": facts.facts.get("training_seconds", nan) if facts.hardened else nan,
    }
    floors = [attack.spec for attack in manifest.attacks if attack.floor and attack.eps > 0]
    attacked = pairs.table[(pairs.table["target"] == target) & (pairs.table["n"] > 0)]
    real = attacked[looks_at_a_model(attacked)].dropna(subset=GAIN.mean)
    names["gain_noise"] = attacked[GAIN.mean][attacked["attack"].isin(floors)].mean()
    for name, relations in RELATIONS.items():
        names[f"gain_{name}"] = real[GAIN.mean][real["relation"].isin(relations)].max()
    values = _clean(pairs, target, scorer)
    if len(real):
        worst = strongest(real)
        names |= {"strongest": attack_and_source(worst), "relation": worst["relation"]}
        values |= _under(pairs, worst)
    return Measured(names, values, signs(pairs, target, manifest))


def _under(pairs: Pairs, pair: pd.Series) -> dict[str, Value]:
    """What is left of a target under one attack."""
    rows = pairs.rows[pairs.rows["ok"]]
    rows = rows[(rows[KEY] == pair[KEY]).all(axis=1)]
    clean, attacked = rows["score_clean"].to_numpy(), rows["score_adv"].to_numpy()
    counts = drawn(pairs.weights, rows["unit"].to_numpy())
    gain, mae, r = rows[GAIN.name].to_numpy(), np.abs(attacked - clean), robustness(clean, attacked)
    means = {"gain": gain, "mae": mae, "r": r}
    values = {name: (float(each.mean()), weighted_mean(each, counts)) for name, each in means.items()}
    values["gain_sd"] = tuple(part / rows["deviation"].iloc[0] for part in values["gain"])
    return values | {"srocc_kept": (agreement(clean, attacked)["srocc"], bootstrap_srocc(clean, attacked, counts))}


def _clean(pairs: Pairs, target: str, scorer: str) -> dict[str, Value]:
    """What the defense does to clean images, and to the time of a score."""
    rows = pairs.rows[pairs.rows["ok"] & pairs.rows["target"].isin([target, scorer])]
    means = rows.groupby(["unit", "target"], observed=True)[["score_clean", "score_seconds", "mos"]].mean()
    by_image = pd.DataFrame(means.unstack()).dropna(axis="columns", how="all").dropna()
    if by_image.empty or not {("score_clean", target), ("score_clean", scorer)} <= set(by_image):
        return {}
    before, after = (by_image["score_clean", name].to_numpy() for name in (scorer, target))
    counts = drawn(pairs.weights, by_image.index.to_numpy())
    shift = np.abs(after - before)
    values = {
        "srocc_to_undefended": (agreement(before, after)["srocc"], bootstrap_srocc(before, after, counts)),
        "shift": (float(shift.mean()), weighted_mean(shift, counts)),
    }
    if ("mos", scorer) in by_image:
        mos = by_image["mos", scorer].to_numpy()
        was, now = ((agreement(mos, s)["srocc"], bootstrap_srocc(mos, s, counts)) for s in (before, after))
        values["mos_srocc"], values["mos_srocc_lost"] = now, (was[0] - now[0], was[1] - now[1])
    if "certified_high" in rows:
        own = rows[rows["target"] == target].groupby("unit")[["certified_low", "certified_high"]].mean().dropna()
        if len(own):
            half = (own["certified_high"] - own["certified_low"]).to_numpy() / 2
            values["certified"] = (float(half.mean()), weighted_mean(half, drawn(pairs.weights, own.index.to_numpy())))
    if {("score_seconds", target), ("score_seconds", scorer)} <= set(by_image):
        was, now = (by_image["score_seconds", name].to_numpy() for name in (scorer, target))
        values["slowdown"] = (
            float(now.mean() / was.mean()),
            divide(weighted_mean(now, counts), weighted_mean(was, counts)),
        )
    return values


def _board(measured: Sequence[Measured]) -> pd.DataFrame:
    """One line per defense: means over its scorers; ranked by what it takes from the strongest attack's gain."""
    plain = {m.names["scorer"]: m.values["gain"] for m in measured if not m.names["defense"] and "gain" in m.values}
    records, cuts = [], []
    for defense in dict.fromkeys(m.names["defense"] for m in measured):
        targets = [m for m in measured if m.names["defense"] == defense]
        compared = [m for m in targets if "gain" in m.values and m.names["scorer"] in plain]
        changes = [(plain[m.names["scorer"]], m.values["gain"]) for m in compared]
        cut = _mean([(was[0] - now[0], was[1] - now[1]) for was, now in changes]) if changes else None
        shared = [name for name in targets[0].values if all(name in m.values for m in targets)]
        values = {name: _mean([m.values[name] for m in targets]) for name in shared}
        names = {name: targets[0].names[name] for name in ("defense", "label", "random", "trained")}
        names |= {"n_scorers": len(targets), "scorers": ", ".join(m.names["scorer"] for m in targets)}
        for name in ("training_seconds", "gain_noise", *(f"gain_{relation}" for relation in RELATIONS)):
            names[name] = float(pd.Series([float(m.names[name]) for m in targets]).mean())
        flagged = sorted({sign for m in targets for sign, _ in m.signs})
        records.append(names | _columns({"gain_cut": cut} | values if cut else values) | {"masking": ";".join(flagged)})
        cuts.append(cut)
    length = next((len(cut[1]) for cut in cuts if cut), 0)
    value = np.array([cut[0] if cut else np.nan for cut in cuts])
    samples = np.stack([cut[1] if cut else np.full(length, np.nan) for cut in cuts], axis=1)
    return ranked(records, ranking(value, samples), "label")


def _mean(values: Sequence[Value]) -> Value:
    return float(np.mean([v for v, _ in values])), np.mean([samples for _, samples in values], axis=0)


def _columns(values: Mapping[str, Value]) -> dict[str, float]:
    """All values with their intervals; NaN for what there is not."""
    columns = {f"{name}{end}": float("nan") for name in VALUES for end in ("", "_low", "_high")}
    for name, (value, samples) in values.items():
        low, high = interval(samples[:, None])[:, 0]
        columns |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return columns


def _text(raised: Sequence[Sign]) -> str:
    return "; ".join(f"{name}: {numbers}" for name, numbers in raised)
