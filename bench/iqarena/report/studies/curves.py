"""Cost–gain curves: what an attack has reached after so many model evaluations, transfer and query attacks alike.

A query attack is a curve through its answers on the way; an attack that takes gradients alone is one point at its
forward and backward passes. A warm start has paid for its start before its first query, and has no point before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.metrics.correlation import agreement, bootstrap_srocc
from iqarena.metrics.score_change import directed_effect, gain
from iqarena.metrics.statistics import Floats, interval, mean_of_present, weighted_mean
from iqarena.report.pairs import KEY, Pairs
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = ["attack_label", "relation", "target", "queries", "evaluations"]
STATISTICS = ["gain", "directed_sd", "srocc"]
ALL = "mean of targets"
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"]


def curve_table(pairs: Pairs, manifest: Manifest) -> pd.DataFrame:
    """``curves.csv``: a line per attack, target and cost, and one per attack and cost for the mean of its pairs.

    ``queries`` of the target; ``evaluations`` are queries plus forward and backward passes of the sources. Gain,
    directed effect and SROCC carry 95 % intervals from the bootstrap that all tables share. White-box pairs are left
    out; single-source and ensemble pairs are both held out and stand together.
    """
    budgets = {attack.label: attack.queries for attack in manifest.attacks}
    rows = pairs.rows[pairs.rows["ok"] & pairs.rows["relation"].isin((*HELD_OUT, "query"))]
    points: dict[tuple[Any, ...], list[tuple[Floats, Floats]]] = {}
    for (_, _, target), group in rows.groupby(KEY, sort=True):
        first, drawn = group.iloc[0], pairs.weights[:, group["unit"].to_numpy()]
        label, queried = str(first["attack_label"]), first["relation"] == "query"
        passes = group["forwards"].mean() + group["backwards"].mean()
        for at, attacked, control in _answers(group, budgets.get(label, 0) if queried else 0, passes):
            value, sample = _statistics(group, attacked, control, drawn)
            for who in (target, ALL):
                key = (label, "query" if queried else "held-out", who, at, at + passes)
                points.setdefault(key, []).append((value, sample))
    return pd.DataFrame([_line(key, some) for key, some in points.items()]).sort_values(NAMES, ignore_index=True)


def _answers(group: pd.DataFrame, budget: int, passes: float) -> Iterator[tuple[int, str, str]]:
    """(queries, score column, control column) of each answer that was kept, the last included."""
    if budget and not passes:
        yield 0, "score_clean", "score_clean"
    marks = sorted(int(m[1]) for name in group.columns if (m := re.fullmatch(r"score_at_(\d+)", name)))
    for at in marks:
        if at < budget and group[f"score_at_{at}"].notna().all():
            yield at, f"score_at_{at}", f"control_at_{at}"
    yield budget, "score_adv", "score_control"


def _statistics(group: pd.DataFrame, attacked: str, control: str, drawn: Floats) -> tuple[Floats, Floats]:
    """Values ``(3,)`` and bootstrap samples ``(B, 3)`` of ``STATISTICS`` for one pair."""
    clean, adv, flipped, s = (group[c].to_numpy(float) for c in ("score_clean", attacked, control, "direction"))
    gains, directed = gain(clean, adv, s), directed_effect(adv, flipped, s) / group["deviation"].to_numpy(float)
    values = np.array([gains.mean(), directed.mean(), agreement(clean, adv)["srocc"]])
    samples = [weighted_mean(gains, drawn), weighted_mean(directed, drawn), bootstrap_srocc(clean, adv, drawn)]
    return values, np.stack(samples, axis=1)


def _line(key: tuple[Any, ...], pairs: list[tuple[Floats, Floats]]) -> dict[str, Any]:
    values = mean_of_present(np.stack([value for value, _ in pairs]), axis=0)
    low, high = interval(mean_of_present(np.stack([sample for _, sample in pairs], axis=2), axis=2))
    line: dict[str, Any] = dict(zip(NAMES, key, strict=True)) | {"n_pairs": len(pairs)}
    for k, name in enumerate(STATISTICS):
        line |= {name: values[k], f"{name}_low": low[k], f"{name}_high": high[k]}
    return line


def cost_gain(curves: pd.DataFrame) -> Figure:
    """All attacks on one cost axis: directed effect and SROCC kept, mean over targets, with intervals."""
    from matplotlib.figure import Figure

    mean = curves[curves["target"] == ALL]
    figure = Figure(figsize=(9.6, 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 2)
    for ax, name, text in zip(axes, ("directed_sd", "srocc"), ("directed effect (target std. dev.)", "SROCC kept")):
        _draw(ax, mean, name, _styles(mean))
        ax.set_title(text, fontsize=10)
        ax.set_xlabel("model evaluations per picture:\nqueries, and passes of the sources", fontsize=9)
    figure.suptitle("What a model evaluation buys", x=0.01, ha="left", fontsize=12)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def cost_gain_by_target(curves: pd.DataFrame) -> Figure:
    """The same for the directed effect on each target."""
    from matplotlib.figure import Figure

    targets = [t for t in curves["target"].unique() if t != ALL]
    columns = min(3, len(targets))
    lines = -(-len(targets) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.5 * lines + 1.3), layout="constrained", facecolor="white")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for ax in grid.flat[len(targets) :]:
        ax.set_axis_off()
    styles = _styles(curves)
    for ax, target in zip(grid.flat, targets):
        _draw(ax, curves[curves["target"] == target], "directed_sd", styles)
        ax.set_title(str(target).replace("$", r"\$"), fontsize=9)
    for ax in grid[-1]:
        ax.set_xlabel("model evaluations per picture", fontsize=8.5)
    figure.suptitle("Directed effect by target (target std. dev.)", x=0.01, ha="left", fontsize=12)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def _styles(curves: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each attack; query attacks have the strong colours."""
    order = curves.sort_values("relation", ascending=False)["attack_label"].unique()
    return {label: (PALETTE[k % len(PALETTE)], "osD^vPX*"[(k + k // 8) % 8]) for k, label in enumerate(order)}


def _draw(ax: Axes, curves: pd.DataFrame, name: str, styles: Mapping[str, tuple[str, str]]) -> None:
    for label, (colour, marker) in styles.items():
        mine = curves[curves["attack_label"] == label].sort_values("evaluations")
        if mine.empty:
            continue
        x, y, low, high = (mine[c].to_numpy(float) for c in ("evaluations", name, f"{name}_low", f"{name}_high"))
        text = str(label).replace("$", r"\$")
        if len(mine) > 1:
            ax.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.6, label=text)
            ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        else:
            ax.vlines(x, low, high, color=colour, linewidth=1.2)
            ax.plot(
                x, y, marker, color="white", markeredgecolor=colour, markersize=6.5, markeredgewidth=1.5, label=text
            )
    ax.set_xscale("symlog", linthresh=10)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    ax.set_xlim(left=-0.8)
    ax.grid(color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)
