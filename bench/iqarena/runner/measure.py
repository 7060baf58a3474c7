"""One attack from one source on a batch: crafting, scoring on every target, measuring, rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqarena.api import Attack, AttackError, ImageItem, IqarenaError, Model
from iqarena.api.streams import Streams
from iqarena.engine.craft import Crafted, craft
from iqarena.engine.direction import directions
from iqarena.engine.score_oracle import Target
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.errors import StoreError
from iqarena.runner.batch import Batch, hashes, mirrored, to_pictures
from iqarena.runner.diagnostics import own_diagnostics, target_diagnostics, watched
from iqarena.runner.gallery import Gallery
from iqarena.store.folder import Store
from iqarena.store.keys import row_key
from iqarena.suite.plan import Plan
from iqarena.suite.sources import SourceSpec

Row = dict[str, Any]


@dataclass
class Bench:
    """What all cells of a run share. ``done`` are the keys that need no work; ``stop`` asks workers to end."""

    plan: Plan
    store: Store
    scorers: dict[Model, Scorer]
    setting: tuple[str, str]
    tick: Callable[[int], object]
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.done = self.store.done()
        self.gallery = Gallery(self.store.folder, self.plan)
        self.device = next(iter(self.scorers.values())).device


@dataclass(frozen=True)
class Made:
    """What one attack made from one source, before any target is asked to judge it."""

    crafted: Crafted
    sha256: list[str]
    control_sha256: list[str]
    columns: list[dict[str, Any]]  # per picture, the columns that are the same for all targets
    scored: dict[str, Tensor]  # by column, further pictures to score: a query attack's answers on the way
    towards: Tensor | None = None  # s·δ, where diagnostics are wanted


def attack_rows(
    bench: Bench, attack: Attack, source: SourceSpec, targets: Sequence[Model], batch: Batch, repeat: int,
    heads: list[list[Row]],
) -> list[Row]:  # fmt: skip
    """Rows of one attack from one source, all targets. What fails becomes error rows: an attack or a source for all
    targets, a target for its own."""
    try:
        made = _make(bench, attack, source, targets, batch, repeat)
    except StoreError:
        raise
    except Exception as error:  # an attack or a model may fail in any way; the run goes on and says so
        return [failed(head, reason(error)) for some in heads for head in some]
    rows: list[Row] = []
    for target, some in zip(targets, heads, strict=True):
        try:
            scores = _target_scores(bench.scorers[target], batch, made)
            why = target_diagnostics(bench.scorers[target], batch, made.towards)
            time_taken = {"score_seconds": batch.score_seconds(target)}
        except Exception as error:
            rows += [failed(head, reason(error)) for head in some]
            continue
        for i, head in enumerate(some):
            mine = {name: float(values[i]) for name, values in scores.items()}
            if not made.crafted.finite[i]:
                rows.append(failed(head, f"{attack.name} gave NaN or infinite pixels"))
            elif not np.isfinite(list(mine.values())).all():
                rows.append(failed(head, f"{target!r} gave a score that is not finite"))
            else:
                rows.append({**head, "status": "ok", **mine, **made.columns[i], **why[i], **time_taken})
    return rows


def _make(
    bench: Bench, attack: Attack, source: SourceSpec, targets: Sequence[Model], batch: Batch, repeat: int
) -> Made:
    members = [bench.scorers[model] for model in source.models]
    guides = [bench.scorers[model] for model in targets] if attack.queries else members  # whose scores it may go by
    clean = _source_scores(guides, batch, batch.pixels, batch.sha256)
    if not np.isfinite(clean).all():
        raise AttackError(f"{source.spec} gave a score that is not finite")
    direction = directions(bench.plan.suite.direction, clean)
    streams = Streams([item.id for item in batch.items], repr(attack), bench.plan.suite.seed, repeat)
    asked = None
    if attack.queries:
        asked = Target(guides[0], batch.pixels, torch.from_numpy(clean), eps=attack.eps, budget=attack.queries)
    sign, memo = torch.from_numpy(direction), batch.gradients
    view = Source(members, batch.x, streams, sign=sign, access=attack.access, memo=memo, target=asked)
    started = time.perf_counter()
    diagnosed, filters = watched(attack) if bench.plan.suite.diagnostics else (attack, {})
    crafted = craft(diagnosed, batch.pixels, batch.x, view, streams)
    seconds = (time.perf_counter() - started) / len(batch.items)
    pictures = to_pictures(crafted.adversarial)
    shas = hashes(pictures)
    own_gain = direction * (_source_scores(guides, batch, crafted.adversarial, shas) - clean)
    if repeat == 0:
        bench.gallery.save(attack, source, batch.items, batch.pictures, pictures)
    towards, diagnostics = None, [{}] * len(pictures)
    if bench.plan.suite.diagnostics:
        towards = view.sign * (crafted.adversarial.to(batch.x) / 255 - batch.x)
        diagnostics = own_diagnostics(towards, filters)
    columns = [
        {
            **batch.distance(i, shas[i], picture),
            "direction": direction[i],
            "own_gain": own_gain[i],
            "zero_gradient": float("nan") if view.zero_gradient is None else float(view.zero_gradient[i]),
            "forwards": view.forwards,
            "backwards": view.backwards,
            "queries": float(asked.queries[i]) if asked else 0.0,
            "no_response": float(asked.no_response[i]) if asked else float("nan"),
            "seconds": seconds,
            "sha256": shas[i],
            **diagnostics[i],
        }
        for i, picture in enumerate(pictures)
    ]
    scored: dict[str, Tensor] = {}
    for at, answers in asked.kept(crafted.adversarial) if asked else ():
        scored |= {f"score_at_{at}": answers, f"control_at_{at}": mirrored(batch.pixels, answers)}
    return Made(crafted, shas, hashes(to_pictures(crafted.control)), columns, scored, towards)


def _target_scores(scorer: Scorer, batch: Batch, made: Made) -> dict[str, np.ndarray]:
    adversarial = batch.score(scorer, made.crafted.adversarial, made.sha256)
    unrounded = adversarial.copy()
    if len(changed := made.crafted.changed.nonzero()[:, 0]):
        unrounded[changed.cpu().numpy()] = scorer.score(made.crafted.unrounded[changed]).cpu().numpy()
    return {
        "score_clean": batch.score(scorer, batch.pixels, batch.sha256),
        "score_adv": adversarial,
        "score_control": batch.score(scorer, made.crafted.control, made.control_sha256),
        "score_float": unrounded,
        **{name: batch.score(scorer, pixels, hashes(to_pictures(pixels))) for name, pixels in made.scored.items()},
    }


def _source_scores(members: Sequence[Scorer], batch: Batch, pixels: Tensor, shas: list[str]) -> np.ndarray:
    return np.mean([batch.score(scorer, pixels, shas) for scorer in members], axis=0)


def named(
    bench: Bench, attack: Attack, source: SourceSpec, target: Model, item: ImageItem, sha256: str, repeat: int
) -> Row:
    """The columns that name a row."""
    return {
        "key": row_key(
            attack,
            source.models,
            target,
            item,
            sha256,
            direction=bench.plan.suite.direction,
            seed=bench.plan.suite.seed,
            repeat=repeat,
            setting=bench.setting,
        ),
        "attack": repr(attack),
        "attack_label": attack.label,
        "source": source.spec,
        "target": repr(target),
        "relation": "query" if attack.queries else source.relation(target),
        "image": item.id,
        "cluster": item.cluster,
        "image_sha256": sha256,
        "repeat": repeat,
        "mos": float("nan") if item.mos is None else item.mos,
    }


def failed(head: Row, message: str) -> Row:
    return {**head, "status": "error", "message": " ".join(message.split())[:500]}


def reason(error: Exception) -> str:
    return str(error) if isinstance(error, IqarenaError) else f"{type(error).__name__}: {error}"
