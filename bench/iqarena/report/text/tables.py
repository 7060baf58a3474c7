"""What a reader is shown, as text: the tables and facts that the terminal, the Markdown file and the page share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from iqarena.api.spec import parse
from iqarena.report.pairs import BOUNDARIES
from iqarena.report.text.cells import count, number, rank_text, share, tie_text, with_interval
from iqarena.store.manifest import Manifest

LEGEND = {
    "Directed effect": "s · (f(x + δ) − f(x − δ)) / 2 in standard deviations of the target's clean scores: how far the "
    "perturbation moves the target in the wanted direction, beyond what its sign-flipped control does. "
    "Undirected noise has about 0. Mean over pairs, with a 95 % bootstrap interval over pictures.",
    "Held-out": "single-source transfer and ensemble hold-out pairs: the attack never saw the target. "
    "Only these decide ranks.",
    "White-box": "the target is the attack's own source. An upper reference, never a part of a rank.",
    "Rank [interval], tie": "from the same bootstrap, paired over pictures. Attacks with the same tie letter are not "
    "told apart from the first of their group.",
    "SROCC kept": "rank correlation of the target's clean and attacked scores; 1 = order untouched. "
    "Undirected noise lowers it too, so read it beside the noise row.",
    "Query": "the attack asked the target for scores of 8-bit pictures inside its budget, each counted, the clean one "
    "first. Never held out, so on a board of its own.",
    "Win rate": "share of duels against every other attack on the same source, target and picture, ties half.",
    "vs baseline": "held-out pairs significantly better / worse / tested against the strongest baseline of the same "
    "source and target (Wilcoxon signed-rank over pictures, Holm-corrected over all pairs, 5 %).",
    "Gain": "mean score change in the wanted direction, in points of the 0–100 scale; noise counts here.",
    "Forwards, backwards, queries, seconds": "what crafting one adversarial picture costs, on average. "
    "Counts are of all that the attack asked for; gradients that another attack of the run had asked for before are "
    "remembered, which makes its seconds fewer.",
    "Coverage": "held-out results that exist, of those that any attack was measured on.",
}

COUNTED = ("forwards", "backwards", "queries")


@dataclass(frozen=True)
class Table:
    """Cells are final text; the first ``names`` columns (and the last, if said) are names, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    names: int = 1
    note: str = ""
    summary: Mapping[str, str] = field(default_factory=dict)
    last_is_name: bool = False
    details: bool = False  # for files, not for the terminal

    @property
    def left(self) -> list[bool]:
        """Which columns are left-aligned."""
        columns = len(self.header)
        return [k < self.names or (self.last_is_name and k == columns - 1) for k in range(columns)]


def attack_table(board: pd.DataFrame, *, brief: bool = False) -> Table:
    """The attack board; ``brief`` leaves out what a terminal has no room for."""
    header = ["Rank", "Tie", "Attack", "Directed effect", "Transfer", "Ensemble", "White-box*", "SROCC kept"]
    header += ["vs baseline", "Coverage"] if brief else [
        "Gain", "Win rate", "vs baseline", "SSIM", "Fwd / bwd / queries", "Seconds", "Coverage",
    ]  # fmt: skip
    rows = []
    for r in board.to_dict("records"):
        cells = {
            **_shared_cells(r),
            "Transfer": number(r["transfer_directed_sd"]),
            "Ensemble": number(r["ensemble_holdout_directed_sd"]),
            "White-box*": number(r["whitebox_directed_sd"]),
            "SROCC kept": number(r["srocc"]),
        }
        rows.append([cells[name] for name in header])
    note = "Directed effect in target standard deviations on held-out pairs; * white-box is never ranked."
    return Table("Attacks", header, rows, names=3, note=note)


def query_table(board: pd.DataFrame, manifest: Manifest) -> Table:
    """The board of the query attacks."""
    header = ["Rank", "Tie", "Attack", "Directed effect", "Gain", "SROCC fall"]
    header += ["SROCC fall to MOS"] if board["mos_srocc_fall"].notna().any() else []
    header += [f"Past {b:g}" for b in BOUNDARIES]
    header += ["Win rate", "vs baseline", "SSIM", "Fwd / bwd / queries", "Seconds", "Coverage"]
    rows = []
    for r in board.to_dict("records"):
        cells = {
            **_shared_cells(r),
            "SROCC fall": number(1 - r["srocc"]),
            "SROCC fall to MOS": number(r["mos_srocc_fall"]),
            **{f"Past {b:g}": share(r[f"past_{b:g}"]) for b in BOUNDARIES},
        }
        rows.append([cells[name] for name in header])
    note = "These have seen the target's scores, and are ranked among themselves. "
    note += "Past b: share of pictures whose score went further than b of the way to the end of the scale."
    said = [
        f" Published for {a.label.partition('(')[0]} (the paper's number, not measured here): {a.published}"
        for a in manifest.attacks
        if a.published
    ]
    return Table("Query attacks", header, rows, names=3, note=note + "".join(said))


def _shared_cells(r: Mapping[Any, Any]) -> dict[str, str]:
    """What both attack boards say of an attack."""
    return {
        "Rank": rank_text(r),
        "Tie": tie_text(r["tie_group"]),
        "Attack": r["attack_label"],
        "Directed effect": with_interval(r, "directed_sd"),
        "Gain": number(r["gain"], 1),
        "Win rate": number(r["win_rate"]),
        "vs baseline": f"{r['better']}/{r['worse']}/{r['tested']}" if r["tested"] else "",
        "SSIM": number(r["ssim"], 3),
        "Fwd / bwd / queries": " / ".join(count(r[c]) for c in COUNTED) if r["n_ok"] else "",
        "Seconds": number(r["seconds"], 2),
        "Coverage": f"{r['n_ok']}/{r['n_planned']}",
    }


def model_table(board: pd.DataFrame) -> Table:
    header = ["Rank", "Tie", "Model", "Directed effect", "SROCC kept", "As a source", "Worst case", "by"]
    rows = []
    for r in board.to_dict("records"):
        attack, source = r["strongest_attack"], r["strongest_source"]
        rows.append([
            rank_text(r), tie_text(r["tie_group"]), r["model"], with_interval(r, "directed_sd"), number(r["srocc"]),
            with_interval(r, "source_directed_sd"), number(r["strongest_directed_sd"]),
            f"{attack} from {short_source(source)}" if attack else "",
        ])  # fmt: skip
    note = "As targets of all held-out attacks but the floors, most robust (smallest effect) first. "
    note += "As a source: what it gives away to single-source transfer attacks on the others."
    return Table("Models", header, rows, names=3, note=note, last_is_name=True)


def short_source(source: str) -> str:
    """``ensemble of 4`` for a source of several members, else the source itself."""
    members = source_size(source)
    return f"ensemble of {members}" if members > 1 else source


def source_size(source: str) -> int:
    """How many models a source has."""
    calls = parse(source).calls
    return len(calls[0].args) if len(calls) == 1 and calls[0].name == "ensemble" else 1


def flag_table(pairs: pd.DataFrame) -> Table | None:
    """Which pairs carry a guard flag, gathered over targets; none when all is well."""
    flagged = pairs[pairs["flags"] != ""]
    if flagged.empty:
        return None
    groups = flagged.groupby(["attack_label", "source", "flags"], sort=True)["target"]
    rows = [[*map(str, key), ", ".join(targets)] for key, targets in groups]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    note = "did_not_run: the attack failed to move its own source, so its pairs say nothing about the target. "
    note += "no_response: no query moved the score. noisy_target: the target's scores differ from call to call."
    return Table("Flags", ["Attack", "Source", "Flags", "Targets"], rows, names=4, note=note)


def failure_table(rows: pd.DataFrame) -> Table | None:
    """Distinct error messages with how often they came; none when nothing failed."""
    failed = rows[rows["status"] != "ok"]
    if failed.empty:
        return None
    groups = failed.groupby(["attack_label", "source", "message"], sort=True).size()
    lines = [[*map(str, key), str(n)] for key, n in groups.items()]  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    return Table("Failed results", ["Attack", "Source", "Message", "Rows"], lines, names=3)


def reconstruction_table(manifest: Manifest) -> Table | None:
    """Which attacks are, in part, this project's reading of a paper rather than the paper."""
    rows = [[attack.label, attack.reconstructed] for attack in manifest.attacks if attack.reconstructed]
    return Table("Reconstructed parts", ["Attack", "What is ours"], rows, names=2) if rows else None
