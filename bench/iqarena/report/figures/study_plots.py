"""Figures of the studies: main effects of a factorial, effect against SSIM, effect against agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from iqarena.report.effects import RANKED
from iqarena.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    new_figure,
    tidy_axes,
    title,
    wrapped,
)  # fmt: skip
from iqarena.report.verdicts import HELPED, HURT, NOT_SHOWN, REFERENCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICTS = {REFERENCE: (BLUE, "D"), HELPED: (GREEN, "^"), HURT: (ORANGE, "v"), NOT_SHOWN: (GREY, "o")}
EFFECT = f"mean {RANKED.title.lower()}, in standard deviations of the target's clean scores"
_FAINT = "#c4c4c4"


def main_effects(effects: pd.DataFrame) -> Figure:
    """One panel a factor: every level's mean with its interval, and the verdict of the paired test on it."""
    panels = [panel for _, panel in effects.groupby("factor", sort=False)]
    names = [[wrapped(level, 34) for level in panel["level"]] for panel in panels]
    heights = [0.5 + sum(1 + 0.55 * name.count("\n") for name in labels) for labels in names]
    figure = new_figure(7.2, 1.5 + 0.27 * sum(heights))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, panel, labels in zip(axes, panels, names, strict=True):
        for place, r in enumerate(panel.to_dict("records")):
            colour, marker = VERDICTS[r["verdict"]]
            low, high = r[f"{RANKED.name}_low"], r[f"{RANKED.name}_high"]
            ax.hlines(place, low, high, color=colour, linewidth=1.8)
            ax.plot(r[RANKED.name], place, marker, color=colour, markersize=6)
        tidy_axes(ax, "x")
        ax.set_yticks(range(len(panel)), labels, fontsize=9)
        ax.set_ylim(len(panel) - 0.5, -0.5)
        ax.set_title(panel["factor"].iloc[0], fontsize=10, loc="left", fontweight="bold")
    axes[-1].set_xlabel(
        f"{EFFECT}\n(bars: 95 % bootstrap interval over images; verdicts: paired over reference images)", fontsize=9
    )
    seen = set(effects["verdict"])
    for verdict, (colour, marker) in VERDICTS.items():
        if verdict in seen:
            axes[0].plot([], [], marker, color=colour, label=verdict)
    title(figure, "Main effects on held-out targets")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def effect_against_ssim(levels: pd.DataFrame, wanted: float, strongest: Sequence[str]) -> Figure:
    """One line an attack through the budgets tried; the ``strongest`` are named, the others grey."""
    figure = new_figure(7.6, 4.8)
    ax = figure.subplots()
    colours = dict(zip(strongest, PALETTE, strict=False))
    lines = {str(label): line for label, line in levels.sort_values("level").groupby("attack")}
    for label in [*sorted(lines.keys() - colours.keys()), *colours]:
        line, named = lines[label], label in colours
        ax.plot(
            line["ssim"], line[RANKED.name], "o-", color=colours.get(label, _FAINT), markersize=4 if named else 3,
            linewidth=1.8 if named else 1, label=wrapped(label, 34) if named else None,
        )  # fmt: skip
    if len(lines) > len(colours):
        ax.plot([], [], "o-", color=_FAINT, markersize=3, linewidth=1, label="others")
    ax.axvline(wanted, color="#444444", linewidth=1, linestyle="--", zorder=1)
    ax.invert_xaxis()
    tidy_axes(ax)
    ax.set_xlabel(
        f"mean SSIM to the clean images, more visible to the right (dashed: compared at {wanted:g})", fontsize=9
    )
    ax.set_ylabel(wrapped(EFFECT, 44), fontsize=9)
    title(figure, "Effect on held-out targets against visibility")
    if lines:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def effect_against_agreement(points: pd.DataFrame, text: str) -> Figure:
    """One point a pair and attack: cosine with the target's gradient, and effect; floors are grey."""
    figure = new_figure(7.2, 4.8)
    ax = figure.subplots()
    groups: Mapping[str, tuple[pd.Series, str, str]] = {
        "floor (looks at no model)": (points["floor"], GREY, "x"),
        "single-source transfer": (~points["floor"] & (points["relation"] == "transfer"), BLUE, "o"),
        "ensemble, held-out target": (~points["floor"] & (points["relation"] == "ensemble_holdout"), ORANGE, "s"),
    }
    for label, (chosen, colour, marker) in groups.items():
        group = points[chosen]
        if len(group):
            ax.plot(group["cosine"], group[RANKED.mean], marker, color=colour, alpha=0.6, markersize=4, label=label)
    for line in (ax.axvline, ax.axhline):
        line(0, color="#666666", linewidth=0.9, linestyle="--", zorder=0)
    tidy_axes(ax)
    ax.set_xlabel("mean cosine of the perturbation and the target's own gradient", fontsize=9)
    ax.set_ylabel(wrapped(EFFECT, 44), fontsize=9)
    title(figure, text, 11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
