"""Example pictures of a run, saved as PNG while crafting: a few pictures, one source, every attack."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from iqarena.api import Attack, ImageItem
from iqarena.plan import Plan, SourceSpec

EXAMPLES = 3


def save_example(
    folder: Path,
    plan: Plan,
    attack: Attack,
    source: SourceSpec,
    items: Sequence[ImageItem],
    clean: Sequence[np.ndarray],
    adversarial: Sequence[np.ndarray],
) -> None:
    """Save the pictures among ``items`` that :func:`examples` names; does nothing for the others."""
    wanted = {(e["image"], e["attack"], e["source"]): e for e in examples(plan)}
    for item, before, after in zip(items, clean, adversarial, strict=True):
        example = wanted.get((item.id, repr(attack), source.spec))
        if example:
            (folder / "gallery").mkdir(exist_ok=True)
            for key, picture in (("clean", before), ("adversarial", after)):
                path = folder / "gallery" / example[key]
                if key == "adversarial" or not path.exists():
                    _write_png(path, picture)


def write_index(folder: Path, plan: Plan) -> None:
    """``gallery/gallery.json``: the examples whose pictures are there."""
    there = [e for e in examples(plan) if (folder / "gallery" / e["adversarial"]).exists()]
    if there:
        (folder / "gallery" / "gallery.json").write_text(json.dumps(there, indent=1) + "\n", encoding="utf-8")


def examples(plan: Plan) -> list[dict[str, str]]:
    """Evenly spaced pictures of the suite under the last source's perturbing attacks."""
    items = plan.images.items()[: plan.suite.limit]
    chosen = [items[i] for i in sorted({round(k * (len(items) - 1) / max(1, EXAMPLES - 1)) for k in range(EXAMPLES)})]
    source = plan.sources[-1]
    return [
        {
            "image": item.id,
            "attack": repr(attack),
            "attack_label": attack.label,
            "source": source.spec,
            "clean": f"{_slug(item.id)}__clean.png",
            "adversarial": f"{_slug(item.id)}__{_slug(attack.label)}__adv.png",
        }
        for item in chosen
        for attack in plan.attacks
        if attack.eps > 0
    ]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def _write_png(path: Path, picture: np.ndarray) -> None:
    """Atomically, since several workers may save the same clean picture."""
    part = path.with_name(path.stem + ".part.png")
    cv2.imwrite(str(part), picture[..., ::-1])
    part.replace(path)
