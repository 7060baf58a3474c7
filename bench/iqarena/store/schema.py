"""The columns of a row."""

from __future__ import annotations

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
COLUMNS: dict[str, type] = {
    **dict.fromkeys(_TEXT, str), "repeat": int, **dict.fromkeys(["mos", *CRAFTED, *SCORED], float)
}  # fmt: skip
HASHES = ["key", "craft_key", "image_sha256", "sha256"]  # what no report shows
TIMES = ["seconds", "score_seconds"]  # the only columns that differ between equal runs
BLANK = {name: "" if kind is str else float("nan") for name, kind in COLUMNS.items()}  # of what a row knows nothing
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in COLUMNS.items()])
