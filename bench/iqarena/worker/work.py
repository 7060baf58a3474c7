"""What there is to do: the rows of an image that are missing, their keys, and what stored rows already tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from iqarena.api import Attack, ImageItem, Model
from iqarena.engine.scorer import Scorer
from iqarena.store.adversarials import Adversarials
from iqarena.store.keys import Keys
from iqarena.suite.plan import Plan
from iqarena.suite.sources import SourceSpec
from iqarena.worker.gallery import Gallery

Row = dict[str, Any]


class Bench:
    """What all cells of a run share."""

    def __init__(self, plan: Plan, folder: Path, scorers: dict[Model, Scorer], keys: Keys) -> None:
        self.plan, self.scorers, self.keys = plan, scorers, keys
        self.adversarials = Adversarials(folder)
        self.gallery = Gallery(folder, plan)
        self.device = next(iter(scorers.values())).device
        self._reported = {repr(model): dict.fromkeys(scorer.evaluated, 0.0) for model, scorer in scorers.items()}
        self._lock = threading.Lock()
        self.names = cache(_names)  # of a row, whatever its image
        self.craftings = tuple(craftings(plan))  # of any image

    def newly_evaluated(self) -> dict[str, dict[str, float]]:
        """What every scorer has evaluated since this was called last, by spec."""
        with self._lock:
            now = {repr(model): dict(scorer.evaluated) for model, scorer in self.scorers.items()}
            before, self._reported = self._reported, now
        return {spec: {kind: n - before[spec][kind] for kind, n in counts.items()} for spec, counts in now.items()}


@dataclass(frozen=True)
class Crafting:
    """One attack from one source, once, and the targets whose rows are missing. ``known``: rows of other targets are
    stored, and say what the adversarial image is."""

    attack: Attack
    source: SourceSpec
    repeat: int
    targets: tuple[Model, ...]
    known: bool


@dataclass
class Todo:
    """What is missing of one image: by crafting, a ``row_id`` for each target, and a stored row of the same adversarial
    image if there is one. ``scores`` are stored ones: (target, by hash, seconds that one took)."""

    row_ids: dict[Crafting, list[Row]] = field(default_factory=dict)
    stored: dict[Crafting, Row] = field(default_factory=dict)
    scores: list[tuple[Model, dict[str, float], float]] = field(default_factory=list)


def todo(bench: Bench, item: ImageItem, sha256: str, stored: Sequence[Row]) -> Todo:
    """What is missing of ``item``, whose pixels have this hash and rows are ``stored``; what failed is missing."""
    rows = [row for row in stored if row["status"] == "ok"]
    by_key, by_craft = ({row[name]: row for row in rows} for name in ("key", "craft_key"))
    result = Todo()
    for attack, source, targets, repeat in bench.craftings:
        row_ids = [row_id(bench, attack, source, target, item, sha256, repeat) for target in targets]
        known = by_craft.get(row_ids[0]["craft_key"])
        missing = [k for k, one in enumerate(row_ids) if one["key"] not in by_key]
        if missing:
            crafting = Crafting(attack, source, repeat, tuple(targets[k] for k in missing), known is not None)
            result.row_ids[crafting] = [row_ids[k] for k in missing]
            if known:
                result.stored[crafting] = known
        for target, one in zip(targets, row_ids, strict=True):
            if row := by_key.get(one["key"]):
                scores = {sha256: row["score_clean"], row["sha256"]: row["score_adv"]}
                result.scores.append((target, scores, row["score_seconds"]))
    return result


def craftings(plan: Plan) -> Iterator[tuple[Attack, SourceSpec, tuple[Model, ...], int]]:
    """Each attack and source with the targets of one crafting: all of them, or each alone if it is queried."""
    for repeat in range(plan.suite.repeats):
        for source in plan.cells:
            for attack in plan.attacks:
                targets = plan.targets_of(attack, source)
                for together in [(target,) for target in targets] if attack.queries else [targets]:
                    if together:
                        yield attack, source, together, repeat


def row_id(
    bench: Bench, attack: Attack, source: SourceSpec, target: Model, item: ImageItem, sha256: str, repeat: int
) -> Row:
    """The columns that name a row, and its keys."""
    names = bench.names(attack, source, target)
    queried = target if attack.queries else None
    craft_key = bench.keys.craft(attack, source.models, queried, item.id, sha256, repeat)
    return {
        "key": bench.keys.row(craft_key, target),
        "craft_key": craft_key,
        **names,
        "image": item.id,
        "cluster": item.cluster,
        "image_sha256": sha256,
        "repeat": repeat,
        "mos": float("nan") if item.mos is None else item.mos,
    }


def _names(attack: Attack, source: SourceSpec, target: Model) -> Row:
    return {
        "attack": repr(attack),
        "attack_label": attack.label,
        "source": source.spec,
        "target": repr(target),
        "relation": "query" if attack.queries else source.relation(target),
    }
