"""The table of the defenses."""

from __future__ import annotations

import math

import pandas as pd

from iqarena.report.text.cells import number, rank_text, tie_text, with_interval
from iqarena.report.text.table import Table
from iqarena.suite.relations import HELD_OUT

RELATIONS = {  # of the attacks whose strongest has a column of its own
    "transfer": HELD_OUT,
    "same_scorer": ("same_scorer",),
    "whitebox": ("whitebox",),
    "query": ("query",),
}
NOTE = """Means over the scorers that are named, in points of the 0–100 scale. Strongest gain: of all transfer,
white-box and query attacks of the run, the one that gains most on each target; gain taken: how much less than on the
same scorer undefended; own deviations: the strongest gain over the standard deviation of the target's own clean
scores, as a defense that narrows the scale takes points without making a scorer harder to move. SROCC kept, MAE and R
(of clean and attacked scores; larger R = more robust) are under that attack. From undefended: crafted on the same
scorer without the defense. Quality lost on clean images: {quality}. Time: of a score, relative to the undefended
scorer. Certified: how far the score is proven to move at most, on average, on all images within the radius that the
defense declares (of a certified defense alone)."""
RATED = "rank correlation with opinion scores lost, and mean distance to the undefended score (shift)"
UNRATED = """these have no opinion scores, so rank correlation of defended and undefended scores, and their mean
distance (shift)"""


def defense_table(board: pd.DataFrame) -> Table:
    """One line per defense, the one that takes most from its strongest attack first."""
    rated = board["mos_srocc_lost"].notna().any()
    certified = board["certified"].notna().any()
    rows = []
    for r in board.to_dict("records"):
        quality = "mos_srocc_lost" if rated else "srocc_to_undefended"
        cells = {
            "Rank": rank_text(r),
            "Tie": tie_text(r["tie_group"]),
            "Defense": r["label"],
            "Scorers": r["scorers"],
            "Gain taken": with_interval(r, "gain_cut", signed=True),
            "Strongest gain": with_interval(r, "gain"),
            "Own deviations": with_interval(r, "gain_sd"),
            "Transfer": number(r["gain_transfer"], 1),
            "From undefended": number(r["gain_same_scorer"], 1),
            "White-box": number(r["gain_whitebox"], 1),
            "Query": number(r["gain_query"], 1),
            "Floor": number(r["gain_noise"], 1),
            "SROCC kept": with_interval(r, "srocc_kept"),
            "MAE": number(r["mae"], 1),
            "R": number(r["r"]),
            "SROCC to MOS lost" if rated else "SROCC to undefended": with_interval(r, quality, signed=bool(rated)),
            "Shift": number(r["shift"], 1),
            "Time": "" if math.isnan(r["slowdown"]) else f"× {number(r['slowdown'])}",
            **({"Certified": f"± {number(r['certified'], 1)}" if r["certified"] >= 0 else ""} if certified else {}),
            "Training h": number(r["training_seconds"] / 3600, 1),
            "Masking?": ", ".join(r["masking"].split(";")),
        }
        rows.append(cells)
    note = NOTE.format(quality=RATED if rated else UNRATED)
    header = list(rows[0])
    return Table("Defenses", header, [list(row.values()) for row in rows], names=4, note=note, last_is_name=True)
