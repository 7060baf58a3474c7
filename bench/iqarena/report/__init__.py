"""Stored rows → tables, plots and a page. Needs no torch: a leaderboard is rebuilt wherever the rows are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from iqarena.files.atomic import write_atomically
from iqarena.report.contents import contents
from iqarena.report.figures import plots
from iqarena.report.page.html import page
from iqarena.report.pairs import tidy
from iqarena.report.text.documents import markdown, terminal
from iqarena.store.manifest import Manifest

__all__ = ["derive"]


def derive(rows: pd.DataFrame, manifest: Manifest, out: Path, gallery: Path | None = None) -> str:
    """Write every derived file of a run into ``out`` and return the boards as text for the terminal.

    Writes ``pairs.csv``, ``leaderboard_attacks.csv``, ``leaderboard_models.csv``, ``leaderboard.md``,
    ``plots/*.{png,svg}`` and ``index.html``, and the files that the suite's grid, SSIM search, diagnostics, defenses
    and query attacks add. ``gallery`` is the folder of example images, if any. The CSV files depend on rows and
    manifest alone, byte for byte; only their ``seconds`` vary between runs. Raises :class:`StoreError` when there are
    no rows.
    """
    report = contents(rows, manifest, gallery)
    for name, table in report.files.items():
        _write(out / name, tidy(table).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    tables = [section.table for section in report.sections]
    _write(out / "leaderboard.md", markdown(report.suite, report.notice, tables, report.remarks, report.facts))
    for name, table in report.texts.items():
        _write(out / name, markdown(report.suite, report.notice, [table], [], report.facts))
    for drawing in report.drawings:
        plots.save(drawing, out / "plots")
    _write(out / "index.html", page(report))
    lines = [report.notice or report.facts["Results"], report.facts.get("Gradients", "")]
    return terminal(report.brief, filter(None, lines))


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode(), sync=False)
