"""Rows → pairs: one line per (attack, source, target), and the bootstrap samples that every board re-uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iqarena.metrics.correlation import agreement, bootstrap_srocc
from iqarena.metrics.score_change import boundary_ratio, gain, past_boundary, relative_gain, robustness
from iqarena.metrics.statistics import (
    Floats,
    cluster_weights,
    interval,
    weighted_mean,
    weighted_median,
)
from iqarena.report.effects import EFFECTS, GAIN, RANKED, WAYS, effects
from iqarena.report.specs import behind
from iqarena.report.verdicts import CONTROL_GAIN, control_driven, with_tests
from iqarena.store.manifest import Manifest

KEY = ["attack", "source", "target"]
MEANS = ["linf", "l2", "psnr", "ssim", "changed", "above_jnd", "own_gain", "zero_gradient", "no_response"]
WHY = ["cosine", "sign_agreement", "energy_low", "energy_middle", "energy_high", "filter_kept", "mask_kept"]
BOUNDARIES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the score, as shares of the headroom in the wanted direction
COSTS = ["forwards", "backwards", "queries", "seconds"]
ALL_ZERO = 0.99  # a mean share of zero gradient entries, or of queries without response, above this is none at all
ROUNDING = 1e-6  # slack of a stored L∞ against its budget
_STATISTICS = [*(f"{effect.name}_{kind}" for effect in EFFECTS for kind in ("mean", "median"))]
_STATISTICS += [f"{CONTROL_GAIN}_mean", "srocc"]


@dataclass(frozen=True)
class Pairs:
    """``table`` with K pairs; of the effect that is ranked, ``samples`` ``(B, K)`` bootstrap means and ``clusters``
    ``(C, K)`` means per reference image; ``rows`` are what they were computed from, with the effects and ``unit``, the
    image's column in the bootstrap ``weights`` ``(B, images)``, added."""

    table: pd.DataFrame
    samples: Floats
    clusters: Floats
    rows: pd.DataFrame
    weights: Floats

    def replicates(self, rows: pd.DataFrame, column: str) -> Floats:
        """Bootstrap means ``(B,)`` of a column of a part of ``rows``, of what is not NaN."""
        present = rows[rows[column].notna()]
        return weighted_mean(present[column].to_numpy(), self.weights[:, present["unit"].to_numpy()])


def looks_at_a_model(pairs: pd.DataFrame) -> pd.Series:
    """Which pairs are of attacks that asked a model for gradients or scores: all but the floors and what failed."""
    return pairs["backwards"] + pairs["queries"] > 0


def pair_table(rows: pd.DataFrame, manifest: Manifest) -> Pairs:
    """Summarise stored rows; ``pairs.csv`` is the table as it is.

    Intervals are 95 % percentile intervals of a bootstrap over clusters of images, the same replicates for all pairs,
    from the seed of the run. The clean deviation of a target is taken as fixed.
    """
    rows = _with_effects(rows)
    images = rows.drop_duplicates("image").sort_values("image")
    weights = cluster_weights(images["cluster"].tolist(), seed=manifest.seed)
    rows["unit"] = np.searchsorted(images["image"].to_numpy(str), rows["image"].to_numpy(str))
    why = [name for name in WHY if name in rows and rows[name].notna().any()]
    budgets = {attack.label: attack.eps for attack in manifest.attacks}
    noisy = {spec for spec, model in manifest.models.items() if model.stochastic}
    columns = {str(name): rows[name].to_numpy() for name in rows}  # a data frame of each pair is slow
    records, samples = [], []
    for key, places in sorted(rows.groupby(KEY).indices.items()):
        group = {name: column[places] for name, column in columns.items()}
        record, sample = _pair(group, weights, budgets, noisy)
        record |= {name: float(rows[name].iloc[places].mean()) for name in why}
        records.append(dict(zip(KEY, key, strict=True)) | record)  # pyright: ignore[reportArgumentType, reportCallIssue]
        samples.append(sample)
    drawn = np.stack(samples, axis=2)  # (replicates, statistics, pairs)
    table = _with_intervals(pd.DataFrame(records), drawn)
    control, noise = (drawn[:, _STATISTICS.index(name)] for name in (f"{CONTROL_GAIN}_mean", GAIN.mean))
    driven = control_driven(table, control, noise, {attack.spec for attack in manifest.attacks if attack.floor})
    table["flags"] = [";".join(filter(None, [flags, driven.get(k, "")])) for k, flags in enumerate(table["flags"])]
    per_cluster = rows.pivot_table(index=KEY, columns="cluster", values=RANKED.name, aggfunc="mean", observed=True)
    clusters = per_cluster.reindex(pd.MultiIndex.from_frame(table[KEY])).to_numpy(float).T
    ranked = drawn[:, _STATISTICS.index(RANKED.mean)]
    return Pairs(with_tests(table, clusters, manifest), ranked, clusters, rows, weights)


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers without rounding dust (1e-17, −0), so that the same rows give the same bytes; p-values stay."""
    numbers = [c for c in table.select_dtypes("float").columns if c not in ("p", "p_holm")]
    return table.assign(**{c: table[c].round(10) + 0.0 for c in numbers})


def _with_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Sorted copy; failed rows have no numbers; the effects added."""
    rows = rows.sort_values([*KEY, "image", "repeat"], kind="stable")
    rows = rows.reset_index(drop=True).assign(ok=lambda r: r["status"] == "ok")
    rows = rows.assign(**{name: np.nan for name in MEANS if name not in rows})
    numeric = ["direction", *(f"score_{of}" for of in ("clean", "adv", "displaced", "control", "float")), "mos"]
    numeric += [*MEANS, *COSTS] + [name for name in WHY if name in rows]
    rows[numeric] = rows[numeric].astype(float).where(rows["ok"], axis=0)
    scored = rows[rows["ok"]].drop_duplicates(["target", "image"])
    deviation = scored.groupby("target")["score_clean"].std()  # pandas: ddof = 1
    deviation = deviation.where(deviation > 1e-9)
    rows["deviation"] = rows["target"].map(deviation).astype(float)
    rows[CONTROL_GAIN] = gain(*(rows[name].to_numpy() for name in ("score_clean", "score_displaced", "direction")))
    scores = ("score_clean", "score_adv", "score_displaced", "score_control", "direction", "deviation")
    return rows.assign(**effects(*(rows[name].to_numpy() for name in scores)))


def _pair(
    group: Mapping[str, NDArray[Any]], weights: Floats, budgets: Mapping[str, float], noisy: Collection[str]
) -> tuple[dict[str, Any], Floats]:
    """One line of the table, and its bootstrap samples of ``_STATISTICS``, ``(B, 8)``."""
    first = {name: str(group[name][0]) for name in ("target", "attack_label", "relation")}
    ok = {name: column[group["ok"]] for name, column in group.items()}
    drawn = weights[:, ok["unit"]]
    clean, attacked, s, mos = (ok[name] for name in ("score_clean", "score_adv", "direction", "mos"))
    record: dict[str, Any] = {"defense": behind(first["target"])[0]} | {
        name: first[name] for name in ("attack_label", "relation")
    }
    record |= {"n": len(clean), "n_failed": int((~group["ok"]).sum()), "n_clusters": len(set(ok["cluster"]))}
    samples = []
    for effect in EFFECTS:
        values = ok[effect.name]
        record |= {effect.mean: _mean(values), f"{effect.name}_median": _median(values)}
        record |= {f"{effect.name}_{way}": _mean(values[s == sign]) for way, sign in WAYS.items()}
        samples += [weighted_mean(values, drawn), weighted_median(values, drawn)]
    record[f"{CONTROL_GAIN}_mean"] = _mean(ok[CONTROL_GAIN])
    samples.append(weighted_mean(ok[CONTROL_GAIN], drawn))
    record |= agreement(clean, attacked)
    samples.append(bootstrap_srocc(clean, attacked, drawn))
    record |= {
        "r": robustness(clean, attacked),
        "rgo": _mean(relative_gain(clean, attacked)),
        "boundary_ratio": _mean(boundary_ratio(clean, attacked, s)),
    }
    record |= {f"past_{b:g}": _mean(past_boundary(clean, attacked, s, b)) for b in BOUNDARIES}
    record |= {f"mos_{k}": v for k, v in agreement(mos, attacked).items()}
    record["mos_srocc_clean"] = agreement(mos, clean)["srocc"]
    record |= {name: _mean(ok[name]) for name in [*MEANS, *COSTS]}
    rounding = np.abs(ok["score_float"] - attacked)
    record["float_gap"] = _mean(rounding[~np.isnan(rounding)])  # unknown for images that were kept with 8 bits
    linf = float(ok["linf"].max(initial=0))
    flags = _flags(record, linf, budgets.get(first["attack_label"]), first["target"] in noisy)
    record["flags"] = ";".join(flags)
    return record, np.stack(samples, axis=1)


def _flags(record: Mapping[str, Any], linf: float, eps: float | None, noisy: bool) -> Iterable[str]:
    if record["backwards"] + record["queries"] > 0 and not record["own_gain"] > 0:
        yield "did_not_run"
    if eps and record["changed"] == 0:
        yield "unchanged"  # by a filter that takes everything away, for example
    if record["zero_gradient"] > ALL_ZERO:
        yield "zero_gradient"
    if record["no_response"] > ALL_ZERO:
        yield "no_response"
    if noisy and record["queries"] > 0:
        yield "noisy_target"
    if eps is not None and linf > eps + ROUNDING:
        yield "over_budget"


def _with_intervals(table: pd.DataFrame, drawn: Floats) -> pd.DataFrame:
    """Each statistic's interval right of it; NaN for a single cluster."""
    for k, name in enumerate(_STATISTICS):
        low, high = interval(drawn[:, k])
        at = list(table.columns).index(name) + 1
        table.insert(at, f"{name}_low", np.where(table["n_clusters"] > 1, low, np.nan))
        table.insert(at + 1, f"{name}_high", np.where(table["n_clusters"] > 1, high, np.nan))
    return table.drop(columns="n_clusters")


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else float("nan")
