"""How the time and memory of a suite grow with its images, sources, targets and attacks, one of them at a time."""

from __future__ import annotations

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tabulate import tabulate

from iqarena.api import SpecError
from iqarena.executors.job import Job, unpacked
from iqarena.report.figures.plots import save
from iqarena.report.figures.style import MARKERS, PALETTE, new_figure, tidy_axes, title
from iqarena.report.section import Drawing
from iqarena.runner.driver import Options, run_plan, shard_items
from iqarena.runner.manifest import provenance
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.tools.memory import peak_memory
from iqarena.worker.threads import cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 4  # on each line


def growth_report(plan: Plan, out: Path) -> str:
    """Measure, and write ``growth.csv``, ``growth.md`` and a figure into ``out``; returns the text.

    Every point is a run in a process of its own, from loading the models to the last row. Sources are the suite's
    single scorers, and attacks its costliest one, at so many budgets.
    """
    records = []
    for axis, n, part in parts(plan):
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawned) as process:
            records.append({"axis": axis, "n": n, **process.submit(measured, _packed(part)).result()})
    points = pd.DataFrame(records)
    out.mkdir(parents=True, exist_ok=True)
    points.to_csv(out / "growth.csv", index=False, float_format="%.4g")
    save(Drawing("growth", "Seconds and memory against what grows", partial(_figure, points)), out / "plots")
    table = [(axis, *line(group), group["memory_mb"].min(), group["memory_mb"].max()) for axis, group in _axes(points)]
    headers = ["growing", "seconds for one more", "largest distance from the line", "MB at least", "MB at most"]
    lines = tabulate(table, headers=headers, tablefmt="github", floatfmt=("", ".2f", ".1%", ".0f", ".0f"))
    machine = provenance()
    where = ", ".join(f"{name} {machine[name]}" for name in ("processor", "platform", "python", "git_commit"))
    what = f"{plan.suite.name}, {len(shard_items(plan))} images at most; {cores()} cores, {where}"
    text = f"# Growth\n\n{lines}\n\n{what}, torch {machine['packages']['torch']}\n"
    (out / "growth.md").write_text(text, encoding="utf-8")
    return text


def parts(plan: Plan) -> Iterator[tuple[str, int, Plan]]:
    """What grows, how many of it there are, and that part of ``plan``."""
    singles = tuple(source for source in plan.sources if len(source.models) == 1)
    costly = max(plan.attacks, key=lambda attack: (not attack.queries) * attack.cost)
    if not singles or not costly.cost:
        raise SpecError(f"suite {plan.suite.name}: expected a source of one scorer, and an attack by gradients")
    whole = dataclasses.replace(plan, sources=singles, grid=None, reference=None)
    for n in _numbers(len(shard_items(plan))):
        yield "images", n, dataclasses.replace(whole, suite=dataclasses.replace(plan.suite, limit=n))
    for n in _numbers(len(singles)):
        yield "sources", n, dataclasses.replace(whole, sources=singles[:n])
    for n in _numbers(len(plan.targets)):
        yield "targets", n, dataclasses.replace(whole, targets=plan.targets[:n])
    for n in range(1, POINTS + 1):
        budgets = tuple(dataclasses.replace(costly, eps=k / 255) for k in range(1, n + 1))
        yield "attacks", n, dataclasses.replace(whole, attacks=budgets)


def measured(packed: bytes) -> dict[str, float]:
    """Run a packed job here: its rows, gradients, scores and seconds, and the most memory that this process had."""
    job = unpacked(packed)
    with tempfile.TemporaryDirectory() as folder:
        store, started = Store(Path(folder)), time.perf_counter()
        usage = run_plan(job.plan, store, Options())
        seconds = time.perf_counter() - started
        rows = len(store.rows())
    counts = {kind: sum(used.evaluated[kind] for used in usage) for kind in ("gradient", "forward")}
    return {"rows": rows, **counts, "seconds": seconds, "memory_mb": peak_memory() / 1e6}


def line(points: pd.DataFrame) -> tuple[float, float]:
    """Slope of the least-squares line of seconds over ``n``, and the largest distance from it as a share of the
    seconds at the last point."""
    n, seconds = (points[name].to_numpy(float) for name in ("n", "seconds"))
    slope, start = np.polyfit(n, seconds, 1)
    return float(slope), float(np.abs(seconds - start - slope * n).max() / seconds[-1])


def _numbers(total: int) -> list[int]:
    return sorted({max(1, round(total * k / POINTS)) for k in range(1, POINTS + 1)})


def _packed(plan: Plan) -> bytes:
    options = Options()
    return Job(plan, Path(), options.device, options.precision, options.keys(plan)).packed()


def _axes(points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    return ((str(axis), group) for axis, group in points.groupby("axis", sort=False))


def _figure(points: pd.DataFrame) -> Figure:
    figure = new_figure(9.0, 3.8)
    for ax, column, text in zip(figure.subplots(1, 2), ("seconds", "memory_mb"), ("seconds", "most memory, MB")):
        for (axis, group), marker, colour in zip(_axes(points), MARKERS, PALETTE):
            n = group["n"].to_numpy(float)
            ax.plot(n / n[-1], group[column], marker=marker, color=colour, label=f"{axis}, up to {n[-1]:.0f}")
        ax.set_xlabel("number, as a share of the largest", fontsize=9)
        ax.set_ylabel(text, fontsize=9)
        ax.set_ylim(0, 1.1 * points[column].max())
        tidy_axes(ax)
    title(figure, "A run's growth with one of its parts, the others as they are")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure
