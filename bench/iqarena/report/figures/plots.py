"""Figures of the boards: a source → target heat map per attack, ranked effects of attacks and of models.

Effects are in standard deviations of the target's clean scores. Every difference in colour is also one in text or
shape.
"""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.files.atomic import write_atomically
from iqarena.report.effects import RANKED
from iqarena.report.figures.style import BLUE, ORANGE, new_figure, tidy_axes, title, wrapped
from iqarena.report.section import Drawing
from iqarena.report.specs import short_source
from iqarena.report.text.cells import number
from iqarena.store.manifest import Manifest
from iqarena.suite.relations import HELD_OUT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 30  # attacks that one figure can hold
UNIT = f"""mean {RANKED.title.lower()},
in standard deviations of the target's clean scores
(bars: 95 % bootstrap interval over images)"""


def heat_maps(pairs: pd.DataFrame, manifest: Manifest) -> list[Drawing]:
    """One per attack that has results in ``pairs``, which name models by label; the colour scale is shared and set by
    held-out pairs."""
    named = (manifest.model(spec).label for spec in (*manifest.targets, *manifest.sources))
    models = list(dict.fromkeys([*named, *sorted(pairs["target"])]))
    labels = dict.fromkeys(a.label for a in manifest.attacks) | dict.fromkeys(sorted(pairs["attack_label"]))
    held_out = pairs.loc[pairs["relation"].isin(HELD_OUT), RANKED.mean].abs().dropna()
    limit = max(0.1, held_out.max()) if len(held_out) else 1.0
    drawings = []
    for label in labels:
        cells = pairs[(pairs["attack_label"] == label) & (pairs["relation"] != "query")]
        if cells[RANKED.mean].notna().any():
            draw = partial(_heat_map, label, cells.assign(row=_row_names(cells)), models, limit)
            drawings.append(Drawing(f"heatmap_{figure_name(label)}", f"Heat map of {label}: sources by targets", draw))
    return drawings


def _row_names(cells: pd.DataFrame) -> pd.Series:
    """Sources in short; all defended ones that attack nothing but themselves are one row."""
    alone = cells.groupby("source")["target"].transform("nunique") == 1
    own = alone & (cells["relation"] == "whitebox") & (cells["defense"] != "")
    return cells["source"].map(short_source).mask(own, "itself")


def _heat_map(label: str, cells: pd.DataFrame, models: Sequence[str], limit: float) -> Figure:
    import seaborn as sns

    effect = cells.pivot_table(index="row", columns="target", values=RANKED.mean)
    flagged = cells[cells["flags"] != ""].groupby(["row", "target"]).size()
    rows, columns = set(cells["row"]), set(cells["target"])
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
    figure = new_figure(2.9 + 0.64 * width, 1.8 + max(0.42, 0.1 + 0.15 * lines) * height)
    axes = figure.subplots()
    sns.heatmap(
        effect, ax=axes, cmap="vlag", vmin=-limit, vmax=limit, annot=texts, fmt="", linewidths=1, linecolor="white",
        annot_kws={"fontsize": 9},
        cbar_kws={"extend": "both", "label": textwrap.fill(RANKED.axis, int(9 * figure.get_figheight()))},
    )  # fmt: skip
    for text in axes.texts:
        x, y = text.get_position()
        text.set_color("white" if abs(effect.to_numpy(float)[int(y), int(x)]) > 0.7 * limit else "black")
    axes.set_facecolor("#e4e4e4")
    white_box = cells[cells["relation"] == "whitebox"]
    for row, target in zip(white_box["row"], white_box["target"], strict=True):
        across, down = (row, target) if swapped else (target, row)
        _frame(axes, effect.columns.get_loc(across), effect.index.get_loc(down))
    axes.set(ylabel=axes_names[0], xlabel=axes_names[1])
    title(figure, wrapped(label, int(10 * figure.get_figwidth())), 11)
    axes.set_xticklabels([wrapped(m, 30) for m in effect.columns], rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names, rotation=0)
    axes.tick_params(labelsize=9)
    notes = ["framed: white-box"] if len(white_box) else []
    notes += ["†: flagged"] if len(flagged) else []
    notes += ["grey: no result"] if effect.isna().to_numpy().any() else []
    figure.supxlabel(" · ".join(notes), fontsize=8.5, color="#444444")
    return figure


def _frame(axes: Axes, x: Any, y: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor="black", linewidth=2))


def attack_ranks(board: pd.DataFrame) -> Figure:
    """Attacks, strongest first and at most ``LINES``, with intervals: single-source transfer and ensemble hold-out."""
    series = {
        "single-source transfer": f"transfer_{RANKED.name}",
        "ensemble, held-out target": f"ensemble_holdout_{RANKED.name}",
    }
    text = "Attacks on held-out targets" + (f": the first {LINES} of {len(board)}" if len(board) > LINES else "")
    return _ranks(board[:LINES], "attack_label", series, text)


def model_ranks(board: pd.DataFrame) -> Figure:
    """Models, most robust first, with intervals: as a target, and as a source for the others."""
    series = {
        "as a target (small = robust)": RANKED.name,
        "as a source (large = transfers)": f"source_{RANKED.name}",
    }
    return _ranks(board, "model", series, "Models under held-out attacks")


def _ranks(board: pd.DataFrame, name: str, series: Mapping[str, str], text: str) -> Figure:
    labels = [wrapped(label, 32) for label in board[name]]
    lines = sum(1 + label.count("\n") for label in labels)
    figure = new_figure(6.8, 2.05 + 0.16 * len(board) + 0.2 * lines)
    axes = figure.subplots()
    place = np.arange(len(board))
    styles = zip(series.items(), (BLUE, ORANGE), "os", (-0.14, 0.14), strict=True)
    for (label, column), colour, marker, shift in styles:
        value, low, high = (board[c].to_numpy(float) for c in (column, f"{column}_low", f"{column}_high"))
        if np.isnan(value).all():
            continue
        axes.hlines(place + shift, low, high, color=colour, linewidth=1.8)
        axes.plot(value, place + shift, marker, color=colour, markersize=5.5, label=label)
    axes.axvline(0, color="#666666", linewidth=0.9, linestyle="--", zorder=0)
    tidy_axes(axes, "x")
    axes.set_yticks(place, labels, fontsize=9)
    axes.set_ylim(len(board) - 0.5, -0.5)
    axes.set_xlabel(UNIT, fontsize=9)
    title(figure, text)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def save(drawing: Drawing, folder: Path) -> None:
    """Draw, and write ``.png`` and ``.svg``, or ``.jpg`` alone, without time stamps.

    The canvases are asked directly, of a figure that is laid out once: ``savefig`` draws everything twice each time.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure = drawing.draw()
    figure.set_dpi(130)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    agg = FigureCanvasAgg(figure)

    def write(kind: str, render: Callable[..., None], **how: Any) -> None:
        render(data := io.BytesIO(), **how)
        write_atomically(folder / f"{drawing.name}.{kind}", data.getvalue(), sync=False)

    if not drawing.vector:
        write("jpg", agg.print_jpg, pil_kwargs={"quality": 80})
        return
    write("png", agg.print_png, metadata={"Software": None})
    with mpl.rc_context({"svg.hashsalt": "iqarena"}):
        write("svg", FigureCanvasSVG(figure).print_svg, metadata={"Date": None, "Creator": None})


def figure_name(label: str) -> str:
    """A file name for a spec; a long one is cut and told apart by a hash."""
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", label).strip("_")
    return name if len(name) <= 80 else f"{name[:70]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
