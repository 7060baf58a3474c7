"""Figures of the studies: main effects of a factorial, effect against SSIM, effect against agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from iqarena.report.figures.plots import BLUE, GREEN, GREY, ORANGE, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERDICTS = {"reference": (BLUE, "D"), "helped": (GREEN, "^"), "hurt": (ORANGE, "v"), "no difference shown": (GREY, "o")}
EFFECT = "mean directed effect, in standard deviations of the target's clean scores"
_FAINT = "#c4c4c4"
_LINES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # of Okabe and Ito's palette


def main_effects(effects: pd.DataFrame) -> Figure:
    """One panel a factor: every level's mean with its interval, and what the paired test says of it."""
    panels = [some for _, some in effects.groupby("factor", sort=False)]
    names = [[wrapped(level, 34) for level in panel["level"]] for panel in panels]
    heights = [0.5 + sum(1 + 0.55 * name.count("\n") for name in some) for some in names]
    figure = _figure(7.2, 1.5 + 0.27 * sum(heights))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, panel, labels in zip(axes, panels, names, strict=True):
        for place, r in enumerate(panel.to_dict("records")):
            colour, marker = VERDICTS[r["verdict"]]
            ax.hlines(place, r["directed_sd_low"], r["directed_sd_high"], color=colour, linewidth=1.8)
            ax.plot(r["directed_sd"], place, marker, color=colour, markersize=6)
        _tidy(ax, "x")
        ax.set_yticks(range(len(panel)), labels, fontsize=9)
        ax.set_ylim(len(panel) - 0.5, -0.5)
        ax.set_title(panel["factor"].iloc[0], fontsize=10, loc="left", fontweight="bold")
    axes[-1].set_xlabel(
        f"{EFFECT}\n(bars: 95 % bootstrap interval over pictures; verdicts: paired over photographs)", fontsize=9
    )
    seen = set(effects["verdict"])
    for verdict, (colour, marker) in VERDICTS.items():
        if verdict in seen:
            axes[0].plot([], [], marker, color=colour, label=verdict)
    figure.suptitle("Main effects on held-out targets", x=0.01, ha="left", fontsize=12)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def effect_against_ssim(levels: pd.DataFrame, wanted: float, strongest: Sequence[str]) -> Figure:
    """One line an attack through the budgets tried; the ``strongest`` are named, the others grey."""
    figure = _figure(7.6, 4.8)
    ax = figure.subplots()
    colours = dict(zip(strongest, _LINES, strict=False))
    lines = {str(label): some for label, some in levels.sort_values("level").groupby("attack")}
    for label in [*sorted(lines.keys() - colours.keys()), *colours]:
        some, named = lines[label], label in colours
        ax.plot(
            some["ssim"], some["directed_sd"], "o-", color=colours.get(label, _FAINT), markersize=4 if named else 3,
            linewidth=1.8 if named else 1, label=wrapped(label, 34) if named else None,
        )  # fmt: skip
    if len(lines) > len(colours):
        ax.plot([], [], "o-", color=_FAINT, markersize=3, linewidth=1, label="others")
    ax.axvline(wanted, color="#444444", linewidth=1, linestyle="--", zorder=1)
    ax.invert_xaxis()
    _tidy(ax, "both")
    ax.set_xlabel(
        f"mean SSIM to the clean pictures, more visible to the right (dashed: compared at {wanted:g})", fontsize=9
    )
    ax.set_ylabel(wrapped(EFFECT, 44), fontsize=9)
    figure.suptitle("Effect on held-out targets against visibility", x=0.01, ha="left", fontsize=12)
    if lines:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def effect_against_agreement(points: pd.DataFrame, title: str) -> Figure:
    """One point a pair and attack: cosine with the target's gradient, and directed effect; floors are grey."""
    figure = _figure(7.2, 4.8)
    ax = figure.subplots()
    groups: Mapping[str, tuple[pd.Series, str, str]] = {
        "noise (no source)": (points["floor"], GREY, "x"),
        "single-source transfer": (~points["floor"] & (points["relation"] == "transfer"), BLUE, "o"),
        "ensemble, held-out target": (~points["floor"] & (points["relation"] == "ensemble_holdout"), ORANGE, "s"),
    }
    for label, (chosen, colour, marker) in groups.items():
        some = points[chosen]
        if len(some):
            ax.plot(
                some["cosine"], some["directed_sd_mean"], marker, color=colour, alpha=0.6, markersize=4, label=label
            )
    for line in (ax.axvline, ax.axhline):
        line(0, color="#666666", linewidth=0.9, linestyle="--", zorder=0)
    _tidy(ax, "both")
    ax.set_xlabel("mean cosine of the perturbation and the target's own gradient", fontsize=9)
    ax.set_ylabel(wrapped(EFFECT, 44), fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _tidy(ax: Axes, grid: str) -> None:
    ax.grid(axis=grid, color="#dddddd", linewidth=0.7)  # pyright: ignore[reportArgumentType]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
