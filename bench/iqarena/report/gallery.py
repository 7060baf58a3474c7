"""A figure of clean pictures, adversarial pictures and their amplified difference, from what the runner kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.report.plots import wrapped
from iqarena.report.tables import short_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INDEX = "gallery.json"  # [{image, attack_label, source, clean, adversarial}], file names beside it
AMPLIFY = 10
MOST = 16  # lines in the figure


def gallery_figure(folder: Path, rows: pd.DataFrame) -> Figure | None:
    """The first entries of the folder's index, one line each; none when it holds no pictures."""
    from matplotlib.figure import Figure

    index = folder / INDEX
    entries: list[dict[str, Any]] = json.loads(index.read_text("utf-8"))[:MOST] if index.is_file() else []
    if not entries:
        return None
    pictures = [(_read(folder / e["clean"]), _read(folder / e["adversarial"])) for e in entries]
    tallest = max(clean.shape[0] / clean.shape[1] for clean, _ in pictures)
    figure = Figure(figsize=(7.4, (2.3 * min(tallest, 1.5) + 0.7) * len(entries)), facecolor="white")
    figure.set_layout_engine("constrained", h_pad=0.08)
    grid = figure.subplots(len(entries), 3, squeeze=False)
    for axes, entry, (clean, attacked) in zip(grid, entries, pictures, strict=True):
        difference = np.clip(128 + AMPLIFY * (attacked.astype(int) - clean), 0, 255).astype(np.uint8)
        titles = (_shorten(entry["image"], 32), wrapped(entry["attack_label"], 32), f"difference × {AMPLIFY}")
        below = ("clean", f"from {_shorten(short_source(entry['source']), 30)}", _score_change(entry, rows))
        for ax, picture, title, text in zip(axes, (clean, attacked, difference), titles, below, strict=True):
            ax.imshow(picture)
            ax.set_title(title, fontsize=8.5)
            ax.set_xlabel(text, fontsize=8)
            ax.set(xticks=[], yticks=[])
    return figure


def _score_change(entry: dict[str, Any], rows: pd.DataFrame) -> str:
    """What the picture did to targets it was not made with: the held-out one, or the mean over several."""
    same = (rows["attack_label"] == entry["attack_label"]) & (rows["source"] == entry["source"])
    seen = rows[same & (rows["image"] == entry["image"]) & (rows["status"] == "ok")]
    seen = seen[seen["relation"].isin(["transfer", "ensemble_holdout"])].drop_duplicates("target")
    if seen.empty:
        return ""
    clean, attacked = seen["score_clean"].mean(), seen["score_adv"].mean()
    who = _shorten(str(seen["target"].iloc[0]), 20) if len(seen) == 1 else f"{len(seen)} targets (mean)"
    return f"score of {who}: {clean:.1f} → {attacked:.1f}"


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _shorten(text: str, width: int) -> str:
    text = text.replace("$", r"\$")
    return text if len(text) <= width else f"{text[: width - 1]}…"
