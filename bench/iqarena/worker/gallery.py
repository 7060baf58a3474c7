"""Example images of a run, saved as PNG while crafting: a few images, one source, every attack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iqarena.api import Attack, ImageItem, Model
from iqarena.files.atomic import file_name, write_atomically
from iqarena.store.adversarials import png
from iqarena.suite.plan import Plan
from iqarena.suite.sources import SourceSpec

EXAMPLES, MAX_ATTACKS = 3, 8  # images, and attacks: a suite of a hundred shows its first ones
_CUT = 40, 6  # of a name: letters, and digits of its hash


class Gallery:
    """``folder/gallery``: ``gallery.json`` names the examples, with image, attack and source of each, and the target of
    a query attack, whose images differ by target."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder / "gallery"
        self._examples = _examples(plan)
        self._wanted = {(e["image"], e["attack"], e["source"]): e for e in self._examples}

    def files(
        self,
        attack: Attack,
        source: SourceSpec,
        targets: Sequence[Model],
        items: Sequence[ImageItem],
        clean: Sequence[np.ndarray],
        adversarial: Sequence[np.ndarray],
    ) -> dict[Path, bytes]:
        """The files of the images (uint8 RGB) that are examples; none for the others. ``targets`` are those that the
        images were crafted against, or are met by."""
        files = {}
        for item, before, after in zip(items, clean, adversarial, strict=True):
            example = self._wanted.get((item.id, repr(attack), source.spec))
            if example and example["target"] in ("", *map(repr, targets)):
                files |= {self.folder / example["clean"]: png(before), self.folder / example["adversarial"]: png(after)}
        return files

    def write_index(self) -> None:
        """``gallery.json``: the examples whose images are there, those of earlier plans first."""
        path = self.folder / "gallery.json"
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        examples = {(e["image"], e["attack_label"]): e for e in [*earlier, *self._examples] if self._is_there(e)}
        if examples:
            text = json.dumps(list(examples.values()), indent=1, ensure_ascii=False) + "\n"
            write_atomically(path, text.encode())

    def _is_there(self, example: dict[str, str]) -> bool:
        return (self.folder / example["adversarial"]).exists()


def _examples(plan: Plan) -> list[dict[str, str]]:
    """Evenly spaced images of the suite under the perturbing attacks from the last source, or on the last target."""
    items = plan.images.items()[: plan.suite.limit]
    places = sorted({round(k * (len(items) - 1) / (EXAMPLES - 1)) for k in range(EXAMPLES)})
    last = {attack: (source, repr(target) if attack.queries else "") for attack, source, target in plan.results()}
    return [
        {
            "image": items[place].id,
            "attack": repr(attack),
            "attack_label": attack.label,
            "source": last[attack][0].spec,
            "target": last[attack][1],
            "clean": f"{file_name(items[place].id, *_CUT)}__clean.png",
            "adversarial": f"{file_name(items[place].id, *_CUT)}__{file_name(attack.label, *_CUT)}.png",
        }
        for place in places
        for attack in plan.attacks[:MAX_ATTACKS]
        if attack.eps > 0 and attack in last
    ]
