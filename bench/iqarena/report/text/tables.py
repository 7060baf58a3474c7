"""The boards as tables, and the tables that warn or explain: flags, failures, reconstructed parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from iqarena.metrics.statistics import FEWEST
from iqarena.report.effects import DIRECTED_SD, GAIN, RANKED, WAYS
from iqarena.report.pairs import BOUNDARIES
from iqarena.report.specs import listed, short_source
from iqarena.report.text.cells import count, number, p_value, rank_text, share, tie_text, with_interval
from iqarena.report.text.table import Table
from iqarena.report.verdicts import UNDECIDED
from iqarena.store.manifest import Manifest

LEGEND = {
    RANKED.title: RANKED.meaning,
    "Held-out": "single-source transfer and ensemble hold-out pairs: the attack never saw the target, nor a pretrained "
    "network that it contains. Only these decide ranks.",
    "Raise / lower": "the same over the images whose score was to rise, and to fall. Noise lowers as well.",
    "White-box": "the target is the attack's own source. An upper reference, never a part of a rank.",
    "Rank [interval], tie": "from the same bootstrap, paired over images. Attacks with the same tie letter are not "
    "told apart from the first of their group.",
    "SROCC kept": "rank correlation of the target's clean and attacked scores; 1 = order untouched. "
    "Undirected noise lowers it too, so read it beside the rows of the floors.",
    "Query": "the attack requested scores of 8-bit images inside its budget from the target, each counted, the clean "
    "image first. Never held out, so on a board of its own.",
    "Win rate": "share of duels against every other attack on the same source, target and image, ties half.",
    "To …, p, verdict": "difference to the reference attack over all held-out pairs that both have, and one test per "
    "attack: Wilcoxon's signed-rank over reference images, Holm-corrected over the attacks of the board, 5 %; stronger "
    "or weaker only where the interval does not hold 0 either.",
    "Pairs": "single pairs stronger / weaker / tested against the reference on the same source and target, "
    "Holm-corrected over all pairs; only where there are images enough for any to be decided.",
    GAIN.title: GAIN.meaning,
    DIRECTED_SD.title: DIRECTED_SD.meaning,
    "Forwards, backwards, queries, seconds": "what crafting one adversarial image costs, on average. Counts are of all "
    "that the attack requested; gradients that another attack of the run had requested before are remembered, which "
    "makes its seconds fewer.",
    "Coverage": "held-out results that exist, of those that any attack was measured on.",
}
COUNTED = ("forwards", "backwards", "queries")


def attack_table(board: pd.DataFrame, *, brief: bool = False) -> Table:
    """The attack board; ``brief`` leaves out the columns that are too many for a terminal."""
    header = ["Rank", "Tie", "Attack", RANKED.title, "Raise / lower"]
    header += [] if brief else ["Transfer", "Ensemble"]
    header += ["White-box*", *_versus(board, brief), "SROCC kept"]
    header += ["SROCC to MOS"] if not brief and board["mos_srocc"].notna().any() else []
    header += ["Coverage"] if brief else [
        GAIN.title, DIRECTED_SD.title, "Win rate", "SSIM", "Fwd / bwd / queries", "Seconds", "Coverage",
    ]  # fmt: skip
    rows = []
    for r in board.to_dict("records"):
        cells = {
            **_shared_cells(r),
            "Transfer": number(r[f"transfer_{RANKED.name}"]),
            "Ensemble": number(r[f"ensemble_holdout_{RANKED.name}"]),
            "White-box*": number(r[f"whitebox_{RANKED.name}"]),
            "SROCC kept": number(r["srocc"]),
            "SROCC to MOS": number(r["mos_srocc"]),
        }
        rows.append([cells[name] for name in header])
    note = f"{RANKED.title} in target standard deviations on held-out pairs; * white-box is never ranked. "
    return Table("Attacks", header, rows, names=3, note=note + _undecided(board))


def query_table(board: pd.DataFrame, manifest: Manifest) -> Table:
    """The board of the query attacks."""
    header = ["Rank", "Tie", "Attack", RANKED.title, "Raise / lower", *_versus(board), GAIN.title, DIRECTED_SD.title]
    header += ["SROCC fall"]
    header += ["SROCC fall to MOS"] if board["mos_srocc_fall"].notna().any() else []
    header += [f"Past {b:g}" for b in BOUNDARIES]
    header += ["Win rate", "SSIM", "Fwd / bwd / queries", "Seconds", "Coverage"]
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
    note += "Past b: share of images whose score went further than b of the way to the end of the scale."
    for attack in manifest.attacks:
        if attack.published:
            name = attack.label.partition("(")[0]
            note += f" Published for {name} (the paper's number, not measured here): {attack.published}"
    note += f" {_undecided(board)}"
    return Table("Query attacks", header, rows, names=3, note=note)


def _versus(board: pd.DataFrame, brief: bool = False) -> list[str]:
    """The columns of the comparison with the reference attack; none without one."""
    reference = board["reference"].iloc[0]
    if not reference:
        return []
    pairs = [] if brief or not board["tested"].any() else ["Pairs"]
    return [f"To {reference}", "p", "Verdict", *pairs]


def _undecided(board: pd.DataFrame) -> str:
    """What intervals and tests could not say, in words."""
    reference = board["reference"].iloc[0]
    few = f"No intervals, which take {FEWEST} reference images. " if board["rank_low"].isna().all() else ""
    if not reference:
        return few + "No attack of this run is the named reference, so none is tested against it."
    undecided = board["attack_label"][board["verdict"] == UNDECIDED].tolist()
    text = f"Not told apart from {reference}: {listed(undecided)}. " if undecided else ""
    return few + text + ("" if board["tested"].any() else "There are too few reference images to decide single pairs.")


def _shared_cells(r: Mapping[Any, Any]) -> dict[str, str]:
    """The cells that both attack boards have."""
    return {
        "Rank": rank_text(r),
        "Tie": tie_text(r["tie_group"]),
        "Attack": r["attack_label"],
        RANKED.title: with_interval(r, RANKED.name),
        "Raise / lower": " / ".join(number(r[f"{RANKED.name}_{way}"]) or "–" for way in WAYS) if r["n_ok"] else "",
        f"To {r['reference']}": with_interval(r, "gap", signed=True) if r["attack_label"] != r["reference"] else "",
        "p": p_value(r["p_holm"]),
        "Verdict": r["verdict"],
        GAIN.title: number(r[GAIN.name], 1),
        DIRECTED_SD.title: number(r[DIRECTED_SD.name]),
        "Win rate": number(r["win_rate"]),
        "Pairs": f"{r['better']}/{r['worse']}/{r['tested']}" if r["tested"] else "",
        "SSIM": number(r["ssim"], 3),
        "Fwd / bwd / queries": " / ".join(count(r[c]) for c in COUNTED) if r["n_ok"] else "",
        "Seconds": number(r["seconds"], 2),
        "Coverage": f"{r['n_ok']}/{r['n_planned']}",
    }


def model_table(board: pd.DataFrame) -> Table:
    header = ["Rank", "Tie", "Model", RANKED.title, "SROCC kept", "As a source", "Worst case", "by"]
    rows = []
    for r in board.to_dict("records"):
        attack, source = r["strongest_attack"], r["strongest_source"]
        rows.append([
            rank_text(r), tie_text(r["tie_group"]), r["model"], with_interval(r, RANKED.name), number(r["srocc"]),
            with_interval(r, f"source_{RANKED.name}"), number(r[f"strongest_{RANKED.name}"]),
            f"{attack} from {short_source(source)}" if attack else "",
        ])  # fmt: skip
    note = "As targets of all held-out attacks but the floors, most robust (smallest effect) first. "
    note += "As a source: what it gives away to single-source transfer attacks on the others."
    return Table("Models", header, rows, names=3, note=note, last_is_name=True)


def flag_table(pairs: pd.DataFrame) -> Table | None:
    """Which pairs carry a guard flag, gathered over targets; none when all is well."""
    flagged = pairs[pairs["flags"] != ""]
    if flagged.empty:
        return None
    groups = flagged.groupby(["attack_label", "source", "flags"], sort=True)["target"]
    rows = [[*map(str, key), ", ".join(targets)] for key, targets in groups]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    note = "did_not_run: the attack failed to move its own source, so its pairs say nothing about the target. "
    note += "no_response: no query moved the score. noisy_target: the target's scores differ from call to call. "
    note += "control_driven: a part of the aligned effect is damage that the perturbation does to its own control, "
    note += "which falls behind noise of its size (a floor's, in proportion)."
    return Table("Flags", ["Attack", "Source", "Flags", "Targets"], rows, names=4, note=note)


def failure_table(failed: pd.DataFrame) -> Table | None:
    """Distinct messages of the rows that failed, with how often they came; none when nothing did."""
    if failed.empty:
        return None
    groups = failed.groupby(["attack_label", "source", "message"], sort=True, observed=True).size()
    lines = [[*map(str, key), str(n)] for key, n in groups.items()]  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    return Table("Failed results", ["Attack", "Source", "Message", "Rows"], lines, names=3)


def reconstruction_table(manifest: Manifest) -> Table | None:
    """Which attacks and models are, in part, this project's reading of a paper rather than the paper."""
    plugins = (*manifest.attacks, *manifest.models.values())
    rows = [[plugin.label, plugin.reconstructed] for plugin in plugins if plugin.reconstructed]
    return Table("Reconstructed parts", ["Attack or model", "Reading of this project"], rows, names=2) if rows else None
