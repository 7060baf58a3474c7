"""The figure of the defenses: what they take from the strongest attack, against what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.report.figures.style import BLUE, GREEN, GREY, ORANGE, new_figure, tidy_axes, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {
    "undefended": (GREY, "D"),
    "purification": (BLUE, "o"),
    "random": (ORANGE, "s"),
    "hardened weights": (GREEN, "^"),
}


def trade_off(board: pd.DataFrame) -> Figure:
    """Gain taken against quality lost and against time; each defense under its rank, the front as a line."""
    from matplotlib.lines import Line2D

    board = board[board["gain_cut"].notna()]
    names = {"mos_srocc_lost": "rank correlation with opinion scores lost"}
    lost = "mos_srocc_lost" if board["mos_srocc_lost"].notna().any() else "order_lost"
    if lost == "order_lost":
        names[lost] = "1 − SROCC of defended and undefended clean scores"
        ends = {"": "srocc_to_undefended", "_low": "srocc_to_undefended_high", "_high": "srocc_to_undefended_low"}
        board = board.assign(**{f"order_lost{end}": 1 - board[column] for end, column in ends.items()})
    figure = new_figure(9.6, 5.0 + 0.2 * -(-len(board) // 2))
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, board, lost)
    left.set(xlabel=f"clean quality lost:\n{names[lost]}", ylabel="points taken from the gain of the strongest attack")
    if board["slowdown"].notna().any():
        _panel(right, board, "slowdown")
        right.xaxis.set_major_formatter(lambda value, _: f"× {value:g}")
    right.set(xlabel="time of a score,\nrelative to the undefended scorer")
    title(figure, "Defenses: robustness against quality and time (bars: 95 % bootstrap intervals over images)", 11)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=kind)
        for kind, (colour, marker) in KINDS.items()
        if kind in set(map(_kind, board.to_dict("records")))
    ]
    handles += [Line2D([], [], color="#666666", linewidth=1, linestyle="--", label="front")]
    handles += [
        Line2D([], [], linestyle="", label=f"{r['number']}  {r['label']}{'†' if r['masking'] else ''}")
        for r in numbered(board)
        if r["number"]
    ]
    if board["masking"].any():
        handles += [Line2D([], [], linestyle="", label="†  gradient masking suspected")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def numbered(board: pd.DataFrame) -> list[dict[Any, Any]]:
    """The lines of the board with their number in the figure; what is undefended has none, and is drawn first."""
    plain = board["defense"] == ""
    defended = board[~plain].to_dict("records")
    return [{"number": "", **r} for r in board[plain].to_dict("records")] + [
        {"number": str(k), **r} for k, r in enumerate(defended, start=1)
    ]


def front(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Which points no other beats in both (small ``x``, large ``y``), from left to right."""
    best, kept = -np.inf, []
    for k in np.lexsort((-y, x)):
        if y[k] > best:
            best = y[k]
            kept.append(int(k))
    return kept


def _panel(axes: Axes, board: pd.DataFrame, column: str) -> None:
    records = numbered(board)
    board = pd.DataFrame(records, columns=["number", *board.columns])
    x, y = board[column].to_numpy(float), board["gain_cut"].to_numpy(float)
    present = np.flatnonzero(~np.isnan(x))
    line = present[front(x[present], y[present])]
    axes.plot(x[line], y[line], color="#666666", linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1)
    low, high = (board[[f"{column}_{end}", f"gain_cut_{end}"]].to_numpy(float) for end in ("low", "high"))
    for k, record in enumerate(records):
        colour, marker = KINDS[_kind(record)]
        axes.hlines(y[k], low[k, 0], high[k, 0], color=colour, linewidth=1, alpha=0.45, zorder=2)
        axes.vlines(x[k], low[k, 1], high[k, 1], color=colour, linewidth=1, alpha=0.45, zorder=2)
        axes.plot(x[k], y[k], marker, color=colour, markersize=13, markeredgecolor="white", zorder=3)
        axes.annotate(
            str(record["number"]), (x[k], y[k]), ha="center", va="center", fontsize=7.5, color="white", zorder=4
        )
    axes.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    tidy_axes(axes)


def _kind(record: Mapping[Any, Any]) -> str:
    if not record["defense"]:
        return "undefended"
    return "random" if record["random"] else "hardened weights" if record["trained"] else "purification"
