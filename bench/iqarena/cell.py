"""One batch of pictures through all sources and attacks: crafting, scoring, measuring, rows."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqarena.api import Attack, ImageError, ImageItem, Model
from iqarena.craft import Crafted, craft
from iqarena.gallery import save_example
from iqarena.identity import row_key
from iqarena.metrics.distortion import Reference, distortion
from iqarena.plan import Plan, SourceSpec
from iqarena.scorer import Scorer
from iqarena.seeding import Streams
from iqarena.source import Source
from iqarena.store import Store


@dataclass
class Bench:
    """What all cells of a run share. ``done`` are the keys that need no work; ``stop`` asks workers to end."""

    plan: Plan
    store: Store
    scorers: dict[Model, Scorer]
    setting: tuple[str, str]
    tick: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.done = self.store.done()


@dataclass
class Batch:
    """Pictures of one size: ``pixels`` uint8 ``(N, 3, H, W)``, ``x`` the same as float on the device."""

    items: list[ImageItem]
    pictures: list[np.ndarray]
    pixels: Tensor
    x: Tensor
    sha256: list[str]
    references: list[Reference]
    gradients: dict[Any, Any] = field(default_factory=dict)
    scores: dict[tuple[Model, int, str], float] = field(default_factory=dict)
    distances: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)


def run_batch(bench: Bench, items: Sequence[ImageItem]) -> None:
    """Every missing row of these pictures. A picture that cannot be read costs error rows, not the run."""
    readable: list[tuple[ImageItem, np.ndarray]] = []
    for item in items:
        try:
            readable.append((item, bench.plan.images.read(item)))
        except ImageError as error:
            for source in bench.plan.sources:
                _store_failure(bench, source, item, str(error))
    for batch in _batches(readable, bench):
        for repeat in range(bench.plan.suite.repeats):
            batch.gradients.clear()
            for source in bench.plan.sources:
                if bench.stop.is_set():
                    return
                _run_cell(bench, source, batch, repeat)
                if repeat == 0:
                    bench.tick(len(batch.items))


def _batches(readable: list[tuple[ImageItem, np.ndarray]], bench: Bench) -> Iterator[Batch]:
    """Neighbours of equal size together."""
    device = next(iter(bench.scorers.values())).device
    for shape in dict.fromkeys(picture.shape for _, picture in readable):
        chosen = [(item, picture) for item, picture in readable if picture.shape == shape]
        pictures = [picture for _, picture in chosen]
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().to(device)
        yield Batch(
            [item for item, _ in chosen],
            pictures,
            pixels,
            pixels.float() / 255,
            [hashlib.sha256(str(p.shape).encode() + p.tobytes()).hexdigest() for p in pictures],
            [Reference.of(p) for p in pictures],
        )


def _run_cell(bench: Bench, source: SourceSpec, batch: Batch, repeat: int) -> None:
    """All attacks from one source; rows are stored together, and only those that are missing."""
    rows: list[dict[str, Any]] = []
    for attack in bench.plan.attacks:
        heads = [
            [_head(bench, attack, source, target, item, sha, repeat) for item, sha in zip(batch.items, batch.sha256, strict=True)]
            for target in bench.plan.scored(source)
        ]
        if all(head["key"] in bench.done for per_target in heads for head in per_target):
            continue
        try:
            rows += _attack_rows(bench, attack, source, batch, repeat, heads)
        except Exception as error:  # an attack or a model may fail in any way; the run goes on and says so
            message = str(error) if isinstance(error, ImageError) else f"{type(error).__name__}: {error}"
            rows += [{**head, "status": "error", "message": _one_line(message)} for some in heads for head in some]
    rows = [row for row in rows if row["key"] not in bench.done]
    if rows:
        bench.store.write(rows)


def _attack_rows(
    bench: Bench, attack: Attack, source: SourceSpec, batch: Batch, repeat: int, heads: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    source_clean = _source_scores(bench, source, batch, batch.pixels, batch.sha256)
    direction = _directions(bench.plan.suite.direction, source_clean)
    streams = Streams([item.id for item in batch.items], repr(attack), bench.plan.suite.seed, repeat)
    members = [bench.scorers[m] for m in source.models]
    view = Source(members, batch.x, streams, access=attack.access, memo=batch.gradients)
    started = time.perf_counter()
    crafted = craft(attack, batch.pixels, batch.x, torch.from_numpy(direction), view, streams)
    seconds = (time.perf_counter() - started) / len(batch.items)
    adversarial = _to_pictures(crafted.adversarial)
    shas = [hashlib.sha256(p.tobytes()).hexdigest() for p in adversarial]
    own_gain = direction * (_source_scores(bench, source, batch, crafted.adversarial, shas) - source_clean)
    save_example(bench.store.folder, bench.plan, attack, source, batch.items, batch.pictures, adversarial)
    rows: list[dict[str, Any]] = []
    for target, per_target in zip(bench.plan.scored(source), heads, strict=True):
        scores = _target_scores(bench, target, batch, crafted, shas)
        for i, head in enumerate(per_target):
            if not crafted.finite[i]:
                rows.append({**head, "status": "error", "message": f"{attack.name} gave NaN or infinite pixels"})
                continue
            rows.append(
                head
                | {name: float(values[i]) for name, values in scores.items()}
                | _distances(batch, i, shas[i], adversarial[i])
                | {
                    "status": "ok",
                    "message": "",
                    "direction": int(direction[i]),
                    "own_gain": float(own_gain[i]),
                    "zero_gradient": float("nan") if view.zero_gradient is None else float(view.zero_gradient[i]),
                    "forwards": view.forwards,
                    "backwards": view.backwards,
                    "queries": view.queries,
                    "seconds": seconds,
                    "sha256": shas[i],
                }
            )
    return rows


def _target_scores(
    bench: Bench, target: Model, batch: Batch, crafted: Crafted, shas: list[str]
) -> dict[str, np.ndarray]:
    control_shas = [hashlib.sha256(p.tobytes()).hexdigest() for p in _to_pictures(crafted.control)]
    adversarial = _scores(bench, target, batch, crafted.adversarial, shas)
    unrounded = bench.scorers[target].score(crafted.unrounded).cpu().numpy() if crafted.changed else adversarial
    return {
        "score_clean": _scores(bench, target, batch, batch.pixels, batch.sha256),
        "score_adv": adversarial,
        "score_control": _scores(bench, target, batch, crafted.control, control_shas),
        "score_float": unrounded,
    }


def _source_scores(bench: Bench, source: SourceSpec, batch: Batch, pixels: Tensor, shas: list[str]) -> np.ndarray:
    return np.mean([_scores(bench, m, batch, pixels, shas) for m in source.models], axis=0)


def _scores(bench: Bench, model: Model, batch: Batch, pixels: Tensor, shas: list[str]) -> np.ndarray:
    """Scores of uint8 pictures ``(N, 3, H, W)``; none is scored twice by one model."""
    missing = [i for i, sha in enumerate(shas) if (model, i, sha) not in batch.scores]
    if missing:
        values = bench.scorers[model].score(pixels[missing].to(batch.x) / 255)
        for i, value in zip(missing, values.tolist(), strict=True):
            batch.scores[model, i, shas[i]] = value
    return np.array([batch.scores[model, i, sha] for i, sha in enumerate(shas)])


def _directions(policy: str, source_clean: np.ndarray) -> np.ndarray:
    """``mid``: lower a score above 50, raise any other (both author groups' rule, decided on the source)."""
    if policy == "mid":
        return np.where(source_clean > 50, -1.0, 1.0)
    return np.full_like(source_clean, 1.0 if policy == "raise" else -1.0)


def _distances(batch: Batch, i: int, sha: str, adversarial: np.ndarray) -> dict[str, float]:
    if (i, sha) not in batch.distances:
        batch.distances[i, sha] = distortion(batch.references[i], adversarial)
    return batch.distances[i, sha]


def _head(
    bench: Bench, attack: Attack, source: SourceSpec, target: Model, item: ImageItem, sha256: str, repeat: int
) -> dict[str, Any]:
    """The columns that name a row."""
    return {
        "key": row_key(bench.plan.suite, attack, source, target, item, sha256, repeat, bench.setting),
        "attack": repr(attack),
        "attack_label": attack.label,
        "source": source.spec,
        "target": repr(target),
        "relation": source.relation(target),
        "image": item.id,
        "cluster": item.cluster,
        "image_sha256": sha256,
        "repeat": repeat,
        "mos": float("nan") if item.mos is None else item.mos,
    }


def _store_failure(bench: Bench, source: SourceSpec, item: ImageItem, message: str) -> None:
    rows = [
        _head(bench, attack, source, target, item, "", repeat) | {"status": "error", "message": _one_line(message)}
        for attack in bench.plan.attacks
        for target in bench.plan.scored(source)
        for repeat in range(bench.plan.suite.repeats)
    ]
    bench.store.write(rows)
    bench.tick(1)


def _to_pictures(pixels: Tensor) -> list[np.ndarray]:
    return list(np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy()))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
