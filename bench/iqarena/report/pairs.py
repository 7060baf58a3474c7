"""Rows → pairs: one line per (attack, source, target), and the bootstrap samples that every board re-uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iqarena.errors import StoreError
from iqarena.metrics.correlation import BootstrapSrocc, agreement
from iqarena.metrics.score_change import boundary_ratio, gain, past_boundary, relative_gain, robustness
from iqarena.metrics.statistics import (
    Counts,
    Floats,
    cluster_weights,
    divide,
    drawn,
    interval,
    weighted_mean,
    weighted_median,
)
from iqarena.report.effects import EFFECTS, GAIN, RANKED, WAYS, effects
from iqarena.report.specs import split_target
from iqarena.report.verdicts import CONTROL_GAIN, control_driven, with_tests
from iqarena.store.manifest import Manifest

KEY = ["attack", "source", "target"]
MEANS = ["linf", "l2", "psnr", "ssim", "changed", "above_jnd", "own_gain", "zero_gradient", "no_response"]
WHY = ["cosine", "sign_agreement", "energy_low", "energy_middle", "energy_high", "filter_kept", "mask_kept"]
BOUNDARIES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the score, as shares of the headroom in the wanted direction
COSTS = ["forwards", "backwards", "queries", "seconds"]
ALL_ZERO = 0.99  # a mean share of zero gradient entries, or of queries without response, above this is none at all
ROUNDING = 1e-6  # slack of a stored L∞ against its budget
_AVERAGED = [*(effect.name for effect in EFFECTS), CONTROL_GAIN]
_STATISTICS = [*(f"{name}_mean" for name in _AVERAGED), *(f"{effect.name}_median" for effect in EFFECTS), "srocc"]


@dataclass(frozen=True)
class Pairs:
    """``table`` with K pairs; of the effect that is ranked, ``samples`` ``(B, K)`` bootstrap means and ``clusters``
    ``(C, K)`` means per reference image; ``rows`` are what they were computed from, with the effects and ``unit``, the
    image's column in the bootstrap ``weights`` ``(B, images)``, added."""

    table: pd.DataFrame
    samples: Floats
    clusters: Floats
    rows: pd.DataFrame
    weights: Counts

    def replicates(self, rows: pd.DataFrame, column: str) -> Floats:
        """Bootstrap means ``(B,)`` of a column of a part of ``rows``, of what is not NaN."""
        present = rows[rows[column].notna()]
        return weighted_mean(present[column].to_numpy(), drawn(self.weights, present["unit"].to_numpy()))


def looks_at_a_model(pairs: pd.DataFrame) -> pd.Series:
    """Which pairs are of attacks that asked a model for gradients or scores: all but the floors and what failed."""
    return pairs["backwards"] + pairs["queries"] > 0


def pair_table(rows: pd.DataFrame, manifest: Manifest) -> Pairs:
    """Summarise stored rows; ``pairs.csv`` is the table as it is.

    Intervals are 95 % percentile intervals of a bootstrap over clusters of images, the same replicates for all pairs,
    from the seed of the run. The clean deviation of a target is taken as fixed. Raises :class:`StoreError` when there
    are no rows.
    """
    if not len(rows):
        raise StoreError("expected rows to report on, found none; finish the run first")
    rows = _with_effects(rows)
    images = rows.drop_duplicates("image").sort_values("image")
    weights = cluster_weights(images["cluster"].tolist(), seed=manifest.seed)
    rows["cluster_number"] = pd.factorize(rows["cluster"])[0]
    rows["unit"] = pd.factorize(rows["image"], sort=True)[0]
    why = [name for name in WHY if name in rows and rows[name].notna().any()]
    budgets = {attack.label: attack.eps for attack in manifest.attacks}
    noisy = {spec for spec, model in manifest.models.items() if model.stochastic}
    columns = {str(name): numbers.to_numpy() for name, numbers in rows.select_dtypes(["number", "bool"]).items()}
    pair = np.asarray(rows.groupby(KEY, observed=True).ngroup(), np.intp)  # ascending, as the rows are sorted
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    places = [slice(start, end) for start, end in pairwise([*starts, len(rows)])]
    firsts = rows[[*KEY, "attack_label", "relation"]].iloc[starts].to_dict("records")
    samples = np.empty((len(weights), len(_STATISTICS), len(places)))
    samples[:, : len(_AVERAGED)] = _mean_samples(rows, pair, weights)
    records: list[dict[str, Any]] = [{}] * len(places)
    srocc, seen = None, ()
    for k in sorted(range(len(places)), key=lambda k: firsts[k]["target"]):  # pairs of a target share clean scores
        group = {name: column[places[k]] for name, column in columns.items()}
        ok = {name: column[group["ok"]] for name, column in group.items()}
        counts = drawn(weights, ok["unit"])
        if srocc is None or not all(map(np.array_equal, seen, (ok["score_clean"], ok["unit"]))):
            srocc, seen = BootstrapSrocc(ok["score_clean"], counts), (ok["score_clean"], ok["unit"])
        medians = [weighted_median(ok[effect.name], counts) for effect in EFFECTS]
        samples[:, len(_AVERAGED) :, k] = np.stack([*medians, srocc(ok["score_adv"])], axis=1)
        records[k] = _pair(firsts[k], group, ok, budgets, noisy)
        records[k] |= {name: _mean(group[name][~np.isnan(group[name])]) for name in why}
    table = _with_intervals(pd.DataFrame(records), samples)
    control, noise = (samples[:, _STATISTICS.index(name)] for name in (f"{CONTROL_GAIN}_mean", GAIN.mean))
    driven = control_driven(table, control, noise, {attack.spec for attack in manifest.attacks if attack.floor})
    table["flags"] = [";".join(filter(None, [flags, driven.get(k, "")])) for k, flags in enumerate(table["flags"])]
    per_cluster = rows.pivot_table(index=KEY, columns="cluster", values=RANKED.name, aggfunc="mean", observed=True)
    clusters = per_cluster.reindex(pd.MultiIndex.from_frame(table[KEY])).to_numpy(float).T
    ranked = samples[:, _STATISTICS.index(RANKED.mean)]
    return Pairs(with_tests(table, clusters, manifest), ranked, clusters, rows, weights)


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers without rounding dust (1e-17, −0), so that the same rows give the same bytes; p-values stay."""
    numbers = [c for c in table.select_dtypes("float").columns if c not in ("p", "p_holm")]
    return table.assign(**{c: table[c].round(10) + 0.0 for c in numbers})


def _with_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Sorted copy; failed rows have no numbers; the effects added, and no column of answers that nobody gave."""
    answers = [name for name in map(str, rows) if name.startswith(("score_at_", "displaced_at_"))]
    rows = rows.drop(columns=[name for name in answers if rows[name].isna().all()])
    rows = rows.sort_values([*KEY, "image", "repeat"], kind="stable")
    rows = rows.reset_index(drop=True).assign(ok=lambda r: r["status"] == "ok")
    rows = rows.assign(**{name: np.nan for name in MEANS if name not in rows})
    numeric = ["direction", *(f"score_{of}" for of in ("clean", "adv", "displaced", "control", "float")), "mos"]
    numeric += [*MEANS, *COSTS] + [name for name in WHY if name in rows]
    rows[numeric] = rows[numeric].astype(float).where(rows["ok"], axis=0)
    scored = rows[rows["ok"]].drop_duplicates(["target", "image"])
    deviation = scored.groupby("target", observed=True)["score_clean"].std()  # pandas: ddof = 1
    deviation = deviation.where(deviation > 1e-9)
    rows["deviation"] = rows["target"].map(deviation).astype(float)
    rows[CONTROL_GAIN] = gain(*(rows[name].to_numpy() for name in ("score_clean", "score_displaced", "direction")))
    scores = ("score_clean", "score_adv", "score_displaced", "score_control", "direction", "deviation")
    return rows.assign(**effects(*(rows[name].to_numpy() for name in scores)))


def _mean_samples(rows: pd.DataFrame, pair: NDArray[np.intp], weights: Counts) -> Floats:
    """Bootstrap means ``(B, M, K)`` of the M ``_AVERAGED`` columns of all pairs; ``pair`` is each row's."""
    shape, ok = (weights.shape[1], int(pair.max()) + 1), rows["ok"].to_numpy()
    place = np.ravel_multi_index((rows["unit"].to_numpy()[ok], pair[ok]), shape)
    often = weights.astype(np.float64)

    def sums(values: Floats) -> Floats:
        summed = np.bincount(place, values, minlength=shape[0] * shape[1])
        return often @ np.asarray(summed, np.float64).reshape(shape)

    counts = sums(np.ones(len(place)))
    return np.stack([divide(sums(rows[name].to_numpy()[ok]), counts) for name in _AVERAGED], axis=1)


def _pair(
    first: Mapping[Any, Any],
    group: Mapping[str, NDArray[Any]],
    ok: Mapping[str, NDArray[Any]],
    budgets: Mapping[str, float],
    noisy: Collection[str],
) -> dict[str, Any]:
    """One line of the table; ``ok`` are those of the rows ``group`` that have numbers."""
    clean, attacked, s, mos = (ok[name] for name in ("score_clean", "score_adv", "direction", "mos"))
    record: dict[str, Any] = {name: first[name] for name in KEY} | {"defense": split_target(first["target"])[0]}
    record |= {name: first[name] for name in ("attack_label", "relation")}
    record |= {"n": len(clean), "n_failed": int((~group["ok"]).sum()), "n_clusters": len(set(ok["cluster_number"]))}
    for effect in EFFECTS:
        values = ok[effect.name]
        record |= {effect.mean: _mean(values), f"{effect.name}_median": _median(values)}
        record |= {f"{effect.name}_{way}": _mean(values[s == sign]) for way, sign in WAYS.items()}
    record[f"{CONTROL_GAIN}_mean"] = _mean(ok[CONTROL_GAIN])
    record |= agreement(clean, attacked)
    record |= {
        "r": _mean(robustness(clean, attacked)),
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
    return record


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


def _with_intervals(table: pd.DataFrame, samples: Floats) -> pd.DataFrame:
    """Each statistic's interval right of it; NaN for a single cluster."""
    for k, name in enumerate(_STATISTICS):
        low, high = interval(samples[:, k])
        at = list(table.columns).index(name) + 1
        table.insert(at, f"{name}_low", np.where(table["n_clusters"] > 1, low, np.nan))
        table.insert(at + 1, f"{name}_high", np.where(table["n_clusters"] > 1, high, np.nan))
    return table.drop(columns="n_clusters")


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else float("nan")
