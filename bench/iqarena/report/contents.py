"""What a report shows, computed but not yet written: tables with their figures, remarks, facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from iqarena.report.boards import attack_board, model_board
from iqarena.report.coverage import coverage, notice
from iqarena.report.effects import RANKED
from iqarena.report.figures import curve_plots, plots
from iqarena.report.figures.gallery import gallery_drawing
from iqarena.report.pairs import Pairs, pair_table
from iqarena.report.section import Drawing, Panel, Section
from iqarena.report.specs import labelled
from iqarena.report.studies.ablation import ablation_study
from iqarena.report.studies.agreement import agreement_study
from iqarena.report.studies.curves import ALL, curve_table
from iqarena.report.studies.defenses import defense_study
from iqarena.report.studies.masking import masking_table
from iqarena.report.studies.relatives import relatives_table
from iqarena.report.studies.same_ssim import same_ssim_study
from iqarena.report.text.provenance import provenance
from iqarena.report.text.table import Table
from iqarena.report.text.tables import (
    attack_table,
    failure_table,
    flag_table,
    model_table,
    query_table,
    reconstruction_table,
)  # fmt: skip
from iqarena.store.manifest import Manifest
from iqarena.store.schema import lean


@dataclass(frozen=True)
class Contents:
    """``notice`` says what is missing, empty when nothing is; ``files`` are the CSV files by name; ``brief`` are the
    tables for a terminal."""

    suite: str
    notice: str
    sections: list[Section]
    panels: list[Panel]
    remarks: list[Table]
    facts: Mapping[str, str]
    files: Mapping[str, pd.DataFrame]
    brief: list[Table]

    @property
    def texts(self) -> dict[str, Table]:
        """Tables that have a Markdown file of their own, by its name."""
        return {section.text: section.table for section in self.sections if section.text}

    @property
    def drawings(self) -> list[Drawing]:
        in_panels = [drawing for panel in self.panels for drawing in panel.drawings]
        return [*(section.drawing for section in self.sections), *in_panels]


def contents(rows: pd.DataFrame, manifest: Manifest, gallery: Path | None = None) -> Contents:
    """Raises :class:`StoreError` when there are no rows. Attacks that a search over budgets has added are in its study
    alone."""
    rows = lean(rows)
    searched, declared = {a.spec for a in manifest.attacks if a.searched}, manifest.declared
    shown = rows[~rows["attack"].isin(searched)] if searched else rows
    pairs = pair_table(shown, declared)
    attacks, models = attack_board(pairs, declared), model_board(pairs, declared)
    held_out, queried = (attacks[attacks["board"] == name] for name in ("held-out", "query"))
    curves = curve_table(pairs, declared) if len(queried) else None

    boards = _held_out_sections(held_out, labelled(models, declared)) if len(held_out) else []
    boards += [_query_section(queried, curves, declared)] if curves is not None else []
    studies = [
        same_ssim_study(pair_table(rows, manifest) if searched else pairs, manifest),
        ablation_study(pairs, declared),
        agreement_study(pairs),
        defense_study(pairs, declared),
    ]
    sections = [*boards, *(study for study in studies if study)]
    relatives = relatives_table(pairs)
    remarks = [
        relatives,
        masking_table(pairs, declared),
        flag_table(labelled(pairs.table, declared)),
        failure_table(labelled(rows[rows["status"] != "ok"], declared)),
        reconstruction_table(declared),
    ]
    files = {"leaderboard_attacks.csv": attacks, "leaderboard_models.csv": models, "pairs.csv": pairs.table}
    brief = [attack_table(held_out, brief=True)] if len(held_out) else []
    cover = coverage(rows, manifest)
    return Contents(
        suite=manifest.suite,
        notice=notice(cover),
        sections=sections,
        panels=_panels(pairs, declared, curves, gallery),
        remarks=[table for table in remarks if table],
        facts=provenance(manifest, rows, cover),
        files=files | {name: table for section in sections for name, table in section.files.items()},
        brief=[
            *brief,
            *(section.table for section in sections[len(brief) :] if not section.table.details),
            *filter(None, [relatives]),
        ],
    )


def _held_out_sections(board: pd.DataFrame, models: pd.DataFrame) -> list[Section]:
    attacks = Drawing("attacks", "Ranked attacks with intervals", partial(plots.attack_ranks, board))
    targets = Drawing("models", "Ranked models with intervals", partial(plots.model_ranks, models))
    return [Section(attack_table(board), attacks), Section(model_table(models), targets)]


def _query_section(board: pd.DataFrame, curves: pd.DataFrame, manifest: Manifest) -> Section:
    draw = partial(curve_plots.cost_gain, curves[curves["target"] == ALL])
    drawing = Drawing("cost_gain", "Effect and SROCC against cost", draw)
    return Section(query_table(board, manifest), drawing, {"curves.csv": curves})


def _panels(pairs: Pairs, manifest: Manifest, curves: pd.DataFrame | None, gallery: Path | None) -> list[Panel]:
    """Curves by target, heat maps (none for a grid, whose attacks are too many) and example images."""
    panels = []
    if curves is not None:
        draw = partial(curve_plots.cost_gain_by_target, labelled(curves[curves["target"] != ALL], manifest))
        note = f"{RANKED.title} against model evaluations, one target a panel; numbers in curves.csv."
        drawing = Drawing("cost_gain_by_target", "Effect against cost, by target", draw)
        panels.append(Panel("curves", "Cost and gain by target", note, [drawing]))
    if maps := [] if manifest.factors else plots.heat_maps(labelled(pairs.table, manifest), manifest):
        note = f"Mean {RANKED.title.lower()} in standard deviations of the target's clean scores. The colour scale is "
        note += "the same in every map and set by held-out pairs; white-box cells may lie beyond it."
        panels.append(Panel("maps", "Source → target", note, maps))
    if gallery and (drawing := gallery_drawing(gallery, pairs.rows)):
        note = "Clean image, adversarial image, and ten times their difference around grey."
        panels.append(Panel("gallery", "Gallery", note, [drawing]))
    return panels
