"""Figures of the boards: a source → target heat map per attack, ranked effects of attacks and of models.

Directed effects are in standard deviations of the target's clean scores. Colours are told apart in all common
kinds of colour blindness, and every difference in colour is also one in text or shape.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.report.text.cells import number
from iqarena.report.text.tables import short_source
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"  # of Okabe and Ito's palette
LINES = 25  # attacks that one figure can hold
UNIT = """mean directed effect,
in standard deviations of the target's clean scores
(bars: 95 % bootstrap interval over pictures)"""


def heat_maps(pairs: pd.DataFrame, manifest: Manifest) -> dict[str, Figure]:
    """One figure per attack that has results, by label; the colour scale is shared and set by held-out pairs."""
    models = list(dict.fromkeys([*manifest.targets, *manifest.sources, *sorted(pairs["target"])]))
    labels = dict.fromkeys(a.label for a in manifest.attacks) | dict.fromkeys(sorted(pairs["attack_label"]))
    held_out = pairs.loc[pairs["relation"].isin(HELD_OUT), "directed_sd_mean"].abs().dropna()
    limit = max(0.1, held_out.max()) if len(held_out) else 1.0
    figures = {}
    for label in labels:
        mine = pairs[(pairs["attack_label"] == label) & (pairs["relation"] != "query")]
        if mine["directed_sd_mean"].notna().any():
            figures[label] = _heat_map(label, mine.assign(row=_row_names(mine)), models, limit)
    return figures


def _row_names(mine: pd.DataFrame) -> pd.Series:
    """Sources in short; all defended ones that attack nothing but themselves are one row."""
    alone = mine.groupby("source")["target"].transform("nunique") == 1
    own = alone & (mine["relation"] == "whitebox") & (mine["defense"] != "")
    return mine["source"].map(short_source).mask(own, "itself")


def _heat_map(label: str, mine: pd.DataFrame, models: Sequence[str], limit: float) -> Figure:
    import seaborn as sns

    effect = mine.pivot_table(index="row", columns="target", values="directed_sd_mean")
    flagged = mine[mine["flags"] != ""].groupby(["row", "target"]).size()
    rows, columns = set(mine["row"]), set(mine["target"])
    effect = effect.reindex(
        index=[m for m in models if m in rows] + sorted(rows.difference(models)),
        columns=[m for m in models if m in columns],
    )
    texts = effect.map(number)
    for row, target in flagged.index:
        texts.loc[row, target] += "†"
    axes_names = ["source", "target"]
    if swapped := len(effect.columns) > max(10, 2 * len(effect)):  # many targets are easier to read as rows
        effect, texts, axes_names = effect.T, texts.T, axes_names[::-1]
    height, width = effect.shape
    names = [wrapped(m, 30) for m in effect.index]
    lines = max(1 + name.count("\n") for name in names)
    figure, axes = _figure(2.9 + 0.64 * width, 1.8 + max(0.42, 0.1 + 0.15 * lines) * height)
    sns.heatmap(
        effect, ax=axes, cmap="vlag", vmin=-limit, vmax=limit, annot=texts, fmt="", linewidths=1, linecolor="white",
        annot_kws={"fontsize": 9}, cbar_kws={"extend": "both", "label": "directed effect (target std. dev.)"},
    )  # fmt: skip
    for text in axes.texts:
        x, y = text.get_position()
        text.set_color("white" if abs(effect.to_numpy(float)[int(y), int(x)]) > 0.7 * limit else "black")
    axes.set_facecolor("#e4e4e4")
    white_box = mine[mine["relation"] == "whitebox"]
    for row, target in zip(white_box["row"], white_box["target"], strict=True):
        across, down = (row, target) if swapped else (target, row)
        _frame(axes, effect.columns.get_loc(across), effect.index.get_loc(down))
    axes.set(ylabel=axes_names[0], xlabel=axes_names[1])
    figure.suptitle(wrapped(label, int(10 * figure.get_figwidth())), x=0.01, ha="left", fontsize=11)
    axes.set_xticklabels([wrapped(m, 30) for m in effect.columns], rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names, rotation=0)
    axes.tick_params(labelsize=9)
    notes = ["framed: white-box"] if len(white_box) else []
    notes += ["†: flagged"] if len(flagged) else []
    notes += ["grey: no result"] if effect.isna().to_numpy().any() else []
    figure.supxlabel(" · ".join(notes), fontsize=8.5, color="#444444")
    return figure


def attack_ranks(board: pd.DataFrame) -> Figure:
    """Attacks, strongest first and at most ``LINES``, with intervals: single-source transfer and ensemble hold-out."""
    series = {
        "single-source transfer": "transfer_directed_sd",
        "ensemble, held-out target": "ensemble_holdout_directed_sd",
    }
    title = "Attacks on held-out targets" + (f": the first {LINES} of {len(board)}" if len(board) > LINES else "")
    return _ranks(board[:LINES], "attack_label", series, title)


def model_ranks(board: pd.DataFrame) -> Figure:
    """Models, most robust first, with intervals: as a target, and as a source for the others."""
    series = {"as a target (small = robust)": "directed_sd", "as a source (large = transfers)": "source_directed_sd"}
    return _ranks(board, "model", series, "Models under held-out attacks")


def _ranks(board: pd.DataFrame, name: str, series: Mapping[str, str], title: str) -> Figure:
    labels = [wrapped(label, 32) for label in board[name]]
    lines = sum(1 + label.count("\n") for label in labels)
    figure, axes = _figure(6.8, 2.05 + 0.16 * len(board) + 0.2 * lines)
    place = np.arange(len(board))
    styles = zip(series.items(), (BLUE, ORANGE), "os", (-0.14, 0.14), strict=True)
    for (text, column), colour, marker, shift in styles:
        value, low, high = (board[c].to_numpy(float) for c in (column, f"{column}_low", f"{column}_high"))
        if np.isnan(value).all():
            continue
        axes.hlines(place + shift, low, high, color=colour, linewidth=1.8)
        axes.plot(value, place + shift, marker, color=colour, markersize=5.5, label=text)
    axes.axvline(0, color="#666666", linewidth=0.9, linestyle="--", zorder=0)
    axes.set_yticks(place, labels, fontsize=9)
    axes.set_ylim(len(board) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(UNIT, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def save(figure: Figure, path: Path, *, vector: bool = True) -> None:
    """Write ``path`` + ``.png`` and ``.svg``, without time stamps; ``.jpg`` alone if told that it is of photographs."""
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    if not vector:
        figure.savefig(f"{path}.jpg", dpi=130, pil_kwargs={"quality": 88})
        return
    figure.savefig(f"{path}.png", dpi=130, metadata={"Software": None})
    figure.set_layout_engine("none")  # it is laid out; a second pass would cost as much as the first
    with mpl.rc_context({"svg.hashsalt": "iqarena"}):
        figure.savefig(f"{path}.svg", metadata={"Date": None, "Creator": None})


def slug(label: str) -> str:
    """A file name for a spec; a long one is cut and told apart by a hash."""
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", label).strip("_")
    return name if len(name) <= 80 else f"{name[:70]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots()


def _frame(axes: Axes, x: Any, y: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor="black", linewidth=2))


def wrapped(label: str, width: int) -> str:
    """Lines of about ``width`` characters, broken after a space or a mark of the spec; ``$`` stays a dollar."""
    lines = [""]
    for part in re.split(r"(?<=[ |(])", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines).replace("$", r"\$")
