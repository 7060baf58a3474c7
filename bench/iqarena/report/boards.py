"""Pairs → leaderboards: attacks over all held-out pairs, models as targets and as sources.

Every interval, rank interval and tie group comes from the replicates of the pairs: images are drawn once per replicate
for all pairs together, so differences between attacks (or models) are paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from iqarena.metrics.statistics import Floats, Ranking, divide, holm, interval, mean_of_present, ranking
from iqarena.report.effects import EFFECTS, RANKED, WAYS
from iqarena.report.pairs import BOUNDARIES, COSTS, Pairs, looks_at_a_model
from iqarena.report.sums import difference
from iqarena.report.verdicts import REFERENCE, SIGNIFICANT, STRONGER, UNDECIDED, WEAKER, decided, references
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT


def attack_board(pairs: Pairs, manifest: Manifest) -> pd.DataFrame:
    """One line per attack, strongest first; an attack without a single result stands last with coverage 0.

    Query attacks have seen the target's scores, so they are no rivals of attacks that have not: they are ranked among
    themselves (``board`` is then ``query``, else ``held-out``), by the same effect on the targets they queried.
    ``coverage`` counts against the held-out rows of all attacks together: what others were measured on and this
    attack was not is missing too. ``win_rate`` is the share of duels won on the same source, target and image
    against every other attack, ties half.
    """
    table = pairs.table
    in_rows = set(table["attack_label"][table["relation"] == "query"])
    labels = _in_order((a.label for a in manifest.attacks), table["attack_label"])
    held_out = [label for label in labels if label not in in_rows]
    queried = [label for label in labels if label in in_rows]
    opponents = references(table, manifest)
    boards = [_board(pairs, "held-out", HELD_OUT, held_out, opponents[False])] if held_out else []
    boards += [_board(pairs, "query", ("query",), queried, opponents[True])] if queried else []
    return pd.concat(boards, ignore_index=True)


def _board(pairs: Pairs, name: str, relations: Sequence[str], labels: Sequence[str], reference: str) -> pd.DataFrame:
    """Attacks ranked by their mean effect over pairs of these relations, each compared with ``reference``."""
    table = pairs.table
    counted = table["relation"].isin(relations)
    columns = ["source", "target", "image", "repeat", "attack_label", RANKED.name]
    rows = pairs.rows.loc[pairs.rows["relation"].isin(relations), columns]
    if name == "query":
        rows = rows.assign(source="")  # a duel is about the target, whatever the attacks started from
    shared = len(rows.drop_duplicates(["source", "target", "image", "repeat"]))
    wins = _win_rates(rows)
    records, means, samples = [], [], []
    for label in labels:
        of_attack = table["attack_label"] == label
        board = table[of_attack & counted]
        planned = int((board["n"] + board["n_failed"]).sum()) if name == "query" else shared
        mean, drawn = _mean_effect(pairs, of_attack & counted)
        record: dict[str, Any] = {"attack_label": label, "board": name, **_summary(RANKED.name, mean, drawn)}
        for relation in ("transfer", "ensemble_holdout", "same_backbone", "whitebox"):
            values = _mean_effect(pairs, of_attack & (table["relation"] == relation))
            record |= _summary(f"{relation}_{RANKED.name}", *values)
        for effect in EFFECTS:
            record |= {effect.name: board[effect.mean].mean()}
            record |= {f"{effect.name}_{way}": board[f"{effect.name}_{way}"].mean() for way in WAYS}
        record |= {"srocc": board["srocc"].mean(), "mos_srocc": board["mos_srocc"].mean()}
        record |= {"mos_srocc_fall": (board["mos_srocc_clean"] - board["mos_srocc"]).mean()}
        record |= {column: board[column].mean() for column in (f"past_{b:g}" for b in BOUNDARIES)}
        record |= {"win_rate": wins.get(label, float("nan"))}
        gap, _, _ = difference(pairs, of_attack & counted, (table["attack_label"] == reference) & counted)
        record |= {"reference": reference, **gap.columns("gap"), "p": float("nan") if label == reference else gap.p}
        significant = board["p_holm"] < SIGNIFICANT
        record |= {
            "better": int((significant & (board["gap"] > 0)).sum()),
            "worse": int((significant & (board["gap"] < 0)).sum()),
            "tested": int(board["p_holm"].notna().sum()),
            "ssim": board["ssim"].mean(),
            **{name: board[name].mean() for name in COSTS},
            "n_pairs": int((board["n"] > 0).sum()),
            "n_flagged": int((board["flags"] != "").sum()),
            "n_ok": int(board["n"].sum()),
            "n_planned": planned,
            "coverage": board["n"].sum() / planned if planned else float("nan"),
        }
        records.append(record)
        means.append(mean)
        samples.append(drawn)
    board = ranked(records, ranking(np.array(means), np.stack(samples, axis=1)), "attack_label")
    after = list(board.columns).index("p") + 1
    board.insert(after, "p_holm", holm(board["p"].to_numpy(float)))
    board.insert(after + 1, "verdict", [_verdict(r) for r in board.to_dict("records")])
    return board


def model_board(pairs: Pairs, manifest: Manifest) -> pd.DataFrame:
    """One line per target, most robust first: the mean effect of all held-out attacks that look at a model.

    Floors (attacks that ask for neither gradient nor score) and pairs that did not run are left out, so that a
    broken attack is never read as a robust model. ``source_*`` is how much the model gives away as a single source.
    """
    table = pairs.table
    real = table["relation"].isin(HELD_OUT) & looks_at_a_model(table)
    against = real & ~table["flags"].str.contains("did_not_run")
    records, means, samples = [], [], []
    for model in _in_order(manifest.targets, table["target"]):
        as_target = against & (table["target"] == model)
        mean, drawn = _mean_effect(pairs, as_target)
        record: dict[str, Any] = {"model": model, **_summary(RANKED.name, mean, drawn)}
        record |= {"srocc": table["srocc"][as_target].mean(), "mos_srocc": table["mos_srocc"][as_target].mean()}
        record |= {"strongest_attack": "", "strongest_source": "", f"strongest_{RANKED.name}": float("nan")}
        strongest = table[as_target].dropna(subset=RANKED.mean).nlargest(1, RANKED.mean)
        for worst in strongest.to_dict("records"):
            record |= {"strongest_attack": worst["attack_label"], "strongest_source": worst["source"]}
            record |= {f"strongest_{RANKED.name}": worst[RANKED.mean]}
        as_source = real & (table["relation"] == "transfer") & (table["source"] == model)
        record |= _summary(f"source_{RANKED.name}", *_mean_effect(pairs, as_source))
        record |= {"n_pairs": int((table["n"][as_target] > 0).sum())}
        records.append(record)
        means.append(mean)
        samples.append(drawn)
    return ranked(records, ranking(-np.array(means), -np.stack(samples, axis=1)), "model")


def ranked(records: list[dict[str, Any]], order: Ranking, name: str) -> pd.DataFrame:
    """Records as a table with ranks in front, first rank first; ``name`` decides between equals."""
    board = pd.DataFrame(records)
    for at, (column, values) in enumerate(
        [("rank", order.rank), ("rank_low", order.low), ("rank_high", order.high), ("tie_group", order.group)]
    ):
        board.insert(at, column, values)
    return board.sort_values(["rank", name], na_position="last", ignore_index=True)


def _mean_effect(pairs: Pairs, chosen: pd.Series) -> tuple[float, Floats]:
    """Mean over pairs (each pair counts once) of the ranked effect, and its bootstrap samples ``(B,)``."""
    return pairs.table[RANKED.mean][chosen].mean(), mean_of_present(pairs.samples[:, chosen.to_numpy()], axis=1)


def _summary(name: str, mean: float, samples: Floats) -> dict[str, float]:
    low, high = interval(samples[:, None])[:, 0]
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _verdict(record: Mapping[Any, Any]) -> str:
    """What the test says of an attack beside the reference; empty where there is none."""
    if record["attack_label"] == record["reference"]:
        return REFERENCE
    if np.isnan(record["gap"]):
        return ""
    if not decided(record, "gap"):
        return UNDECIDED
    return STRONGER if record["gap"] > 0 else WEAKER


def _win_rates(rows: pd.DataFrame) -> dict[str, float]:
    duels = rows.pivot_table(
        index=["source", "target", "image"], columns="attack_label", values=RANKED.name, aggfunc="mean", observed=True
    )
    effect = duels.to_numpy(float)
    rates = {}
    for k, label in enumerate(duels.columns):
        others = np.delete(effect, k, axis=1)
        fought = ~np.isnan(others) & ~np.isnan(effect[:, [k]])
        won = (effect[:, [k]] > others) + 0.5 * (effect[:, [k]] == others)
        rates[str(label)] = float(divide(np.array(won[fought].sum()), np.array(fought.sum())))
    return rates


def _in_order(declared: Iterable[str], in_rows: pd.Series) -> list[str]:
    """Declared names first, in their order, then what else the rows hold."""
    return list(dict.fromkeys([*declared, *sorted(in_rows.unique())]))
