"""Stored rows → tables, plots and a page. Needs no torch: a leaderboard is rebuilt wherever the rows are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from iqarena.errors import StoreError
from iqarena.report.boards import attack_board, model_board
from iqarena.report.figures import plots
from iqarena.report.figures.gallery import gallery_figure
from iqarena.report.page.html import Picture, page
from iqarena.report.pairs import pair_table, tidy
from iqarena.report.studies import curves
from iqarena.report.studies.ablation import ablation_study
from iqarena.report.studies.agreement import agreement_study
from iqarena.report.studies.defenses import defense_study
from iqarena.report.studies.masking import masking_table
from iqarena.report.studies.same_ssim import same_ssim_study
from iqarena.report.text.documents import markdown, terminal
from iqarena.report.text.provenance import provenance
from iqarena.report.text.tables import (
    attack_table,
    failure_table,
    flag_table,
    model_table,
    query_table,
    reconstruction_table,
)
from iqarena.store.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["derive"]


def derive(rows: pd.DataFrame, manifest: Manifest, out: Path, gallery: Path | None = None) -> str:
    """Write every derived file of a run into ``out`` and return the boards as text for the terminal.

    Writes ``pairs.csv``, ``leaderboard_attacks.csv``, ``leaderboard_models.csv``, ``leaderboard.md``,
    ``plots/*.{png,svg}`` and ``index.html``, and what the suite's grid, SSIM search and diagnostics ask for.
    ``gallery`` is the folder of kept pictures, if any. The CSV files depend on rows and manifest alone, byte for byte;
    only their ``seconds`` vary between runs. Raises :class:`StoreError` when there are no rows.
    """
    if not len(rows):
        raise StoreError("expected rows to report on, found none; finish the run first")
    out.mkdir(parents=True, exist_ok=True)
    everything, facts = rows, provenance(manifest, rows)
    searched, declared = {a.spec for a in manifest.attacks if a.searched}, manifest.declared
    rows = rows[~rows["attack"].isin(searched)]
    pairs = pair_table(rows, declared)
    attacks, models = attack_board(pairs, declared), model_board(pairs, declared)
    blind, asking = (attacks[attacks["board"] == name] for name in ("held-out", "query"))
    found = [
        same_ssim_study(pair_table(everything, manifest) if searched else pairs, manifest),
        ablation_study(pairs, declared),
        agreement_study(pairs),
        defense_study(pairs, declared),
    ]
    studies = [study for study in found if study]
    files = {"leaderboard_attacks.csv": attacks, "leaderboard_models.csv": models, "pairs.csv": pairs.table}
    if len(asking):
        files["curves.csv"] = curves.curve_table(pairs, declared)
    files |= {name: table for study in studies for name, table in study.files.items()}
    for name, table in files.items():
        tidy(table).to_csv(out / name, index=False, float_format="%.6g", lineterminator="\n")

    suite = manifest.suite
    boards = [attack_table(blind), model_table(models)] if len(blind) else []
    boards += [query_table(asking, declared)] if len(asking) else []
    boards += [study.table for study in studies]
    found_out = [masking_table(pairs, declared), flag_table(pairs.table), failure_table(everything)]
    remarks = [t for t in (*found_out, reconstruction_table(declared)) if t]
    _write(out / "leaderboard.md", markdown(suite, boards, remarks, facts))
    texts = {study.text: study.table for study in studies if study.text}
    for name, table in texts.items():
        _write(out / name, markdown(suite, [table], [], facts))

    ranked, by_target = [], None
    if len(blind):
        ranked += [
            _draw(out, "attacks", plots.attack_ranks(blind), "Ranked attacks with intervals"),
            _draw(out, "models", plots.model_ranks(models), "Ranked models with intervals"),
        ]
    if len(asking):
        ranked += [_draw(out, "cost_gain", curves.cost_gain(files["curves.csv"]), "Effect and SROCC against cost")]
        figure = curves.cost_gain_by_target(files["curves.csv"])
        by_target = _draw(out, "cost_gain_by_target", figure, "Effect against cost, by target")
    ranked += [_draw(out, study.name, study.figure, study.table.title) for study in studies]
    maps = [
        _draw(out, f"heatmap_{plots.slug(label)}", figure, f"Heat map of {label}: sources by targets")
        for label, figure in ({} if manifest.factors else plots.heat_maps(pairs.table, declared)).items()
    ]
    kept = gallery_figure(gallery, rows) if gallery else None
    shown = _draw(out, "gallery", kept, "Clean and adversarial pictures", vector=False) if kept else None
    illustrated = list(zip(boards, ranked, strict=True))
    _write(
        out / "index.html",
        page(suite, illustrated, maps, shown, remarks, facts, [*files, "leaderboard.md", *texts], by_target),
    )
    brief = [attack_table(blind, brief=True)] if len(blind) else []
    return terminal([*brief, *(table for table in boards[len(brief) :] if not table.details)], facts)


def _draw(out: Path, name: str, figure: Figure, alt: str, *, vector: bool = True) -> Picture:
    plots.save(figure, out / "plots" / name, vector=vector)
    return Picture(f"plots/{name}", alt, vector)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
