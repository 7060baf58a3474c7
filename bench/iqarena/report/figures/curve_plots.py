"""Figures of the cost–gain curves: all attacks on one cost axis, and the same by target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from iqarena.report.effects import RANKED
from iqarena.report.figures.style import MARKERS, PALETTE, literal, new_figure, tidy_axes, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = [*PALETTE, "#000000", "#7F7F7F"]


def cost_gain(curves: pd.DataFrame) -> Figure:
    """Ranked effect and SROCC kept against cost, with intervals; ``curves`` are those of the mean over targets."""
    figure = new_figure(9.6, 4.6)
    axes = figure.subplots(1, 2)
    for ax, name, text in zip(axes, (RANKED.name, "srocc"), (RANKED.axis, "SROCC kept")):
        _draw(ax, curves, name, _styles(curves))
        ax.set_title(text, fontsize=10)
        ax.set_xlabel("model evaluations per image:\nqueries, and passes of the sources", fontsize=9)
    title(figure, "What a model evaluation buys")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def cost_gain_by_target(curves: pd.DataFrame) -> Figure:
    """The ranked effect on each target of ``curves``."""
    targets = list(curves["target"].unique())
    columns = min(3, len(targets))
    lines = -(-len(targets) // columns)
    figure = new_figure(3.2 * columns, 2.5 * lines + 1.3)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for ax in grid.flat[len(targets) :]:
        ax.set_axis_off()
    styles = _styles(curves)
    for ax, target in zip(grid.flat, targets):
        _draw(ax, curves[curves["target"] == target], RANKED.name, styles)
        ax.set_title(literal(str(target)), fontsize=9)
    for ax in grid[-1]:
        ax.set_xlabel("model evaluations per image", fontsize=8.5)
    title(figure, f"{RANKED.title} by target ({RANKED.unit})")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def _styles(curves: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each attack; query attacks have the strong colours."""
    order = curves.sort_values("relation", ascending=False)["attack_label"].unique()
    n = len(_COLOURS)
    return {label: (_COLOURS[k % n], MARKERS[(k + k // n) % len(MARKERS)]) for k, label in enumerate(order)}


def _draw(ax: Axes, curves: pd.DataFrame, name: str, styles: Mapping[str, tuple[str, str]]) -> None:
    for label, (colour, marker) in styles.items():
        curve = curves[curves["attack_label"] == label].sort_values("evaluations")
        if curve.empty:
            continue
        x, y, low, high = (curve[c].to_numpy(float) for c in ("evaluations", name, f"{name}_low", f"{name}_high"))
        text = literal(str(label))
        if len(curve) > 1:
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
    tidy_axes(ax, labelsize=8.5)
