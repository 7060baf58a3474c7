"""The columns of a row."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from iqarena.api import CHECKPOINTS

NAMES = ["image", "repeat", "attack", "source", "target"]
_TEXT = [
    "key", "craft_key", *NAMES, "attack_label", "relation", "cluster", "image_sha256", "status", "message", "sha256"
]  # fmt: skip
CRAFTED = [  # what the rows of one adversarial image have in common, besides its ``sha256``
    "direction", "own_gain", "linf", "l2", "psnr", "ssim", "changed", "above_jnd", "zero_gradient", "forwards",
    "backwards", "queries", "no_response", "seconds", "energy_low", "energy_middle", "energy_high", "filter_kept",
    "mask_kept",
]  # fmt: skip
SCORED = [  # and what is each target's own
    *(f"score_{of}" for of in ("clean", "adv", "control", "displaced", "float")), "score_seconds",
    "cosine", "sign_agreement", "certified_low", "certified_high",
    *(f"score_at_{at}" for at in CHECKPOINTS), *(f"displaced_at_{at}" for at in CHECKPOINTS),
]  # fmt: skip
RARE = [*CRAFTED[CRAFTED.index("energy_low") :], *SCORED[SCORED.index("cosine") :]]  # of some suites alone
COLUMNS: dict[str, type] = {
    **dict.fromkeys(_TEXT, str), "repeat": int, **dict.fromkeys(["mos", *CRAFTED, *SCORED], float)
}  # fmt: skip
HASHES = ["key", "craft_key", "image_sha256", "sha256"]  # what no report shows
TIMES = ["seconds", "score_seconds"]  # the only columns that differ between equal runs
BLANK = {name: "" if kind is str else float("nan") for name, kind in COLUMNS.items()}  # of what a row knows nothing
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in COLUMNS.items()])


def lean(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with categories in place of text, whose order is that of the text."""
    text = [name for name, kind in COLUMNS.items() if kind is str and name in rows]
    return in_order(rows.astype(dict.fromkeys(text, "category")))


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """With every categorical column's categories in the order of the text."""
    for name, column in rows.select_dtypes("category").items():
        rows[name] = column.cat.reorder_categories(sorted(column.cat.categories))
    return rows


def rare_and_empty(table: pa.Table) -> list[str]:
    """Columns of some suites alone that no row of this one fills."""
    return [name for name in RARE if name in table.column_names and _is_empty(table[name])]


def _is_empty(column: pa.ChunkedArray) -> bool:
    """Whether all numbers of a column are missing."""
    return bool(column.is_null(nan_is_null=True).to_numpy().all())
