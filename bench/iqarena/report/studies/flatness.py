"""The sweep over a regularisation of the gradient's norm as tables, two figures and a short text; needs no torch."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tabulate import tabulate

from iqarena.files.atomic import write_atomically
from iqarena.metrics.statistics import Floats
from iqarena.report.figures.plots import save
from iqarena.report.figures.style import BLUE, GREEN, GREY, MARKERS, PALETTE, new_figure, tidy_axes, title
from iqarena.report.section import Drawing
from iqarena.store.sweep import SweepManifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARAMETERS = ("weight", "h")  # of the defense: of the gradient's term in its loss, and the step of its difference
_SWEEP, _THEOREM = "norm, agreement and change against the weight", "change against eps times norm"


def write(folder: Path) -> str:
    """``sweep.md`` and ``plots/`` from ``sweep.csv``, ``theorem.csv`` and ``manifest.json``; returns the text."""
    swept, points = pd.read_csv(folder / "sweep.csv"), pd.read_csv(folder / "theorem.csv")
    manifest = SweepManifest.read(folder)
    points["predicted"] = points["eps"] * points["gradient_l1"]
    fits = fitted(points)
    save(Drawing("sweep", _SWEEP, partial(sweep_figure, swept)), folder / "plots")
    save(Drawing("theorem", _THEOREM, partial(theorem_figure, points, fits)), folder / "plots")
    text = _text(swept, fits, manifest)
    write_atomically(folder / "sweep.md", text.encode())
    return text


def line_through_zero(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope of the least-squares line through the origin and R², the share of ``y``'s variance that it explains."""
    slope = float((x * y).sum() / (x * x).sum())
    spread = float(np.square(y - y.mean()).sum())
    return slope, 1 - float(np.square(y - slope * x).sum()) / spread if spread else float("nan")


def fitted(points: pd.DataFrame) -> pd.DataFrame:
    """Slope, R² and rank correlation of change against ``predicted``: per eps and scorers without and with defense."""
    records = []
    for (eps, hardened), group in points.groupby(["eps", "hardened"]):
        x, y = (group[name].to_numpy(float) for name in ("predicted", "change"))
        slope, r2 = line_through_zero(x, y)
        ranks = float(pd.Series(x).corr(pd.Series(y), method="spearman"))
        records.append({"eps": eps, "hardened": hardened, "n": len(group), "slope": slope, "r2": r2, "srocc": ranks})
    return pd.DataFrame(records)


def sweep_figure(swept: pd.DataFrame) -> Figure:
    """One column a scorer: the regularisation's weight across, what it does to norm, agreement and attacks down."""
    scorers = list(dict.fromkeys(swept["scorer"]))
    changes = _changes(swept)
    figure = new_figure(4.2 * len(scorers), 7.6)
    axes = figure.subplots(3, len(scorers), sharex="col", squeeze=False)
    usual = swept["h"].mode().iloc[0]
    for column, scorer in enumerate(scorers):
        trained = swept[swept["scorer"] == scorer]
        own, at_h = trained[trained["defense"] == "none"].iloc[0], trained[trained["h"] == usual].sort_values("weight")
        other = trained[trained["h"].notna() & (trained["h"] != usual)]
        panels: list[list[tuple[str, str, str]]] = [
            [("gradient_l1", "mean ‖∇f‖₁", BLUE)],
            [("srocc", "SROCC with opinions", GREEN)],
            [(c, c.removeprefix("change "), colour) for c, colour in zip(changes, cycle(PALETTE))],
        ]
        for ax, lines in zip(axes[:, column], panels, strict=True):
            for key, label, colour in lines:
                ax.plot(at_h["weight"], at_h[key], "o-", color=colour, markersize=4, label=label)
                ax.axhline(own[key], color=colour, linewidth=1, linestyle="--")
                for r in other.to_dict("records"):
                    ax.plot(r["weight"], r[key], "^" if r["h"] > usual else "v", color=colour, markersize=6, mfc="none")
            tidy_axes(ax, labelsize=8)
            ax.set_xscale("log")
            if len(lines) > 1:
                ax.legend(frameon=False, fontsize=8)
        axes[0, column].set_title(scorer, fontsize=10, loc="left", fontweight="bold")
        axes[0, column].set_ylim(0)
        low, high = trained["srocc"].min(), trained["srocc"].max()
        axes[1, column].set_ylim(low - 0.05, high + 0.05)  # hundredths are not told apart on few images
        axes[2, column].set_ylim(0)
        axes[-1, column].set_xlabel("weight of the gradient term", fontsize=9)
    for ax, label in zip(axes[:, 0], ("mean ‖∇f‖₁", "clean SROCC", "score change, points"), strict=True):
        ax.set_ylabel(label, fontsize=9)
    title(figure, "Gradient-norm regularisation: what its weight does")
    caption = f"dashed: the scorer before; circles: h = {usual:g}; open triangles: a larger (up) or smaller h"
    figure.supxlabel(caption, fontsize=8, x=0.01, ha="left")
    return figure


def theorem_figure(points: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """One panel an eps: an image's change against eps · ‖∇f‖₁, grey without and blue with the defense."""
    figure = new_figure(9.6, 4.6)
    axes = figure.subplots(1, points["eps"].nunique(), squeeze=False)[0]
    markers = dict(zip(sorted(points["scorer"].unique()), cycle(MARKERS)))
    for ax, (eps, panel) in zip(axes, points.groupby("eps"), strict=True):
        for (scorer, hardened), group in panel.groupby(["scorer", "hardened"]):
            ax.plot(
                group["predicted"], group["change"], markers[scorer], markersize=4, alpha=0.7,
                color=BLUE if hardened else GREY, mfc="none", label=f"{scorer}, hardened" if hardened else str(scorer),
            )  # fmt: skip
        ends = np.array([panel["predicted"].min(), panel["predicted"].max()])
        ax.plot(ends, ends, "-", color="#444444", linewidth=1, label="equal")
        ax.set_xscale("log")
        ax.set_yscale("log")
        tidy_axes(ax, labelsize=8)
        lines = [
            f"{'hardened' if r['hardened'] else 'as they are'}: slope {r['slope']:.2f}, R² {r['r2']:.2f}"
            for r in fits[fits["eps"] == eps].to_dict("records")
        ]
        ax.set_title(f"eps = {float(str(eps)) * 255:g}/255\n" + "\n".join(lines), fontsize=9, loc="left")
        ax.set_xlabel("eps · ‖∇f‖₁, points", fontsize=9)
    axes[0].set_ylabel("mean |score change| under one signed step, points", fontsize=9)
    title(figure, "Does the score change track eps · ‖∇f‖₁?")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _changes(swept: pd.DataFrame) -> list[str]:
    return [column for column in map(str, swept) if column.startswith("change ")]


def _table(frame: pd.DataFrame, digits: str) -> str:
    return tabulate(frame.to_dict("list"), headers="keys", tablefmt="github", floatfmt=digits)


def _text(swept: pd.DataFrame, fits: pd.DataFrame, manifest: SweepManifest) -> str:
    small = fits[fits["eps"] == fits["eps"].min()]
    holds = bool(((small["slope"] - 1).abs() < 0.1).all() and (small["r2"] > 0.9).all())
    verdict = "**Confirmed**" if holds else "**Not confirmed**"
    columns = ["scorer", "defense", "gradient_l1", "srocc", "plcc", *_changes(swept)]
    return f"""# Gradient-norm regularisation: weight, step and theorem

Data: {manifest.data}.

Every scorer is trained on for at most {manifest.epochs} epochs and attacked white-box, upwards and downwards, on
{manifest.images} images of `{manifest.image_set}` at the attacks' own budgets. `gradient_l1` is the mean ‖∇f‖₁ of
those images in points per unit of [0, 1]; a change is in points of score, its mean absolute value. SROCC and PLCC are
of the clean validation images. The trainings are short, to compare weights and steps with each other; the shipped ones
are longer.

{_table(swept[columns], ".4g")}

![{_SWEEP}](plots/sweep.png)

## The theorem

To first order the most that a perturbation inside eps changes a score is eps · ‖∇f‖₁. Measured with one signed
gradient step on those images and the embedded scorers, without and with the shipped defense; a line through the origin
is fitted:

{_table(fits.assign(eps=fits["eps"].map(lambda e: f"{e * 255:g}/255")), ".3g")}

{verdict} at eps = {small["eps"].iloc[0] * 255:g}/255 (wanted: slopes within 0.1 of 1, R² above 0.9). Where eps is
larger, a slope below 1 says by how much the first order overstates the change; an R² below 0 that the line says less
than the mean change does.

![{_THEOREM}](plots/theorem.png)

Made by `{manifest.command}`, seed {manifest.seed}; versions and hashes are in `manifest.json`.
"""
