"""A figure of clean images, adversarial images and their amplified difference, from what the runner kept."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iqarena.files.atomic import plain_errors
from iqarena.report.figures.style import new_figure, shortened, wrapped
from iqarena.report.section import Drawing
from iqarena.report.specs import short_source
from iqarena.suite.relations import HELD_OUT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INDEX = "gallery.json"  # [{image, attack_label, source, target, clean, adversarial}], file names beside it
AMPLIFY = 10
SHOWN = 4  # images in the figure


def gallery_drawing(folder: Path, rows: pd.DataFrame) -> Drawing | None:
    """Two lines an image: clean and adversarial versions, and under each its difference; none without images."""
    index = folder / INDEX
    with plain_errors(f"cannot read {index}", index):
        entries: list[dict[str, Any]] = json.loads(index.read_text("utf-8")) if index.exists() else []
    if not entries:
        return None
    draw = partial(_figure, folder, entries, rows)
    return Drawing("gallery", "Clean and adversarial images", draw, vector=False)


def _figure(folder: Path, entries: list[dict[str, Any]], rows: pd.DataFrame) -> Figure:
    images = list(dict.fromkeys(e["image"] for e in entries))[:SHOWN]
    attacks = list(dict.fromkeys(e["attack_label"] for e in entries))
    clean = {e["image"]: _read(folder / e["clean"]) for e in entries if e["image"] in images}
    tallest = min(1.5, max(image.shape[0] / image.shape[1] for image in clean.values()))
    figure = new_figure(2.2 * (1 + len(attacks)), (4.4 * tallest + 0.7) * len(images))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    grid = figure.subplots(2 * len(images), 1 + len(attacks), squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for line, image in enumerate(images):
        above, below = grid[2 * line], grid[2 * line + 1]
        _show(above[0], clean[image], shortened(image, 26))
        for entry in (e for e in entries if e["image"] == image):
            attacked, column = _read(folder / entry["adversarial"]), 1 + attacks.index(entry["attack_label"])
            difference = np.clip(128 + AMPLIFY * (attacked.astype(int) - clean[image]), 0, 255).astype(np.uint8)
            _show(above[column], attacked, wrapped(entry["attack_label"], 26))
            _show(below[column], difference, _score_change(entry, rows))
    source = shortened(short_source(entries[0]["source"]), 40)
    queried = rows["relation"].eq("query").any()
    note = f"Crafted on {source}{', query attacks on the target alone' if queried else ''}. Lower lines: difference"
    note += f" from the clean image × {AMPLIFY}, and the score of the target that was held out"
    note += " or queried." if queried else "."
    figure.supxlabel(wrapped(note, int(14 * figure.get_figwidth())), fontsize=9)
    return figure


def _show(ax: Axes, image: np.ndarray, text: str) -> None:
    ax.imshow(image)
    ax.set_title(text, fontsize=8)


def _score_change(entry: dict[str, Any], rows: pd.DataFrame) -> str:
    """What the image did to targets that it was not crafted on, or queried: of one, or the mean over several."""
    same = (rows["attack_label"] == entry["attack_label"]) & (rows["source"] == entry["source"])
    if target := entry.get("target"):
        same &= rows["target"] == target
    seen = rows[same & (rows["image"] == entry["image"]) & (rows["status"] == "ok")]
    seen = seen[seen["relation"].isin([*HELD_OUT, "query"])].drop_duplicates("target")
    if seen.empty:
        return ""
    clean, attacked = seen["score_clean"].mean(), seen["score_adv"].mean()
    of = shortened(str(seen["target"].iloc[0]), 16) if len(seen) == 1 else f"{len(seen)} targets"
    return f"{of}: {clean:.1f} → {attacked:.1f}"


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.asarray(image.convert("RGB"))
