"""The adversarial images of one attack from one source on a batch: crafted, or read from what is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from iqarena.api import AttackError
from iqarena.api.streams import Streams
from iqarena.engine.craft import craft
from iqarena.engine.direction import directions
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.tensors import to_images, to_pixels
from iqarena.store.schema import CRAFTED
from iqarena.worker.batch import Batch, hashes
from iqarena.worker.diagnostics import own_diagnostics, watched
from iqarena.worker.work import Bench, Crafting, Row

IRREPRODUCIBLE = "crafted again it is another image"


@dataclass(frozen=True)
class Attacked:
    """Adversarial images of one attack from one source, before any target scores them."""

    adversarial: Tensor  # uint8 (N, 3, H, W)
    images: list[np.ndarray]  # the same, uint8 (H, W, 3) each
    shift: Tensor  # int16, whole grey levels before the box cut them: what controls are made from
    sha256: list[str]
    columns: list[Row]  # per image, the columns that are the same for all targets
    failures: list[str]  # per image, why it has no rows; empty where it has
    unrounded: Tensor | None = None  # none for an image that was kept with 8 bits
    changed: Tensor | None = None  # whether rounding changed anything
    on_the_way: dict[int, Tensor] = field(default_factory=dict)  # a query attack's answers, by queries


def attack_images(bench: Bench, crafting: Crafting, batch: Batch, stored: Sequence[Row]) -> Attacked:
    """The adversarial images of a crafting: the kept ones, else crafted, and compared with what is stored of them."""
    kept = [bench.adversarials.load(row["craft_key"], row["sha256"]) for row in stored]
    images = [image for image in kept if image is not None]
    if kept and len(images) == len(kept):
        columns = [_of_image(row) for row in stored]
        image, beyond = (to_pixels(part).to(batch.device) for part in zip(*images, strict=True))
        shift = image.short() - batch.pixels.short()
        shift += torch.where(image == 0, -beyond.short(), beyond.short())
        return Attacked(
            adversarial=image,
            images=to_images(image),
            shift=shift,
            sha256=[row["sha256"] for row in stored],
            columns=columns,
            failures=[""] * len(stored),
        )
    attack, source = crafting.attack, crafting.source
    members = [bench.scorers[model] for model in source.models]
    guides = [bench.scorers[model] for model in crafting.targets] if attack.queries else members
    clean = None if stored and not attack.queries else np.mean([batch.clean(guide) for guide in guides], axis=0)
    if clean is not None and not np.isfinite(clean).all():
        raise AttackError(f"{source.spec} gave a score that is not finite")
    policy = bench.plan.suite.direction
    direction = np.array([row["direction"] for row in stored]) if clean is None else directions(policy, clean)
    streams = Streams([item.id for item in batch.items], attack.label, bench.plan.suite.seed, crafting.repeat)
    oracle = None
    if clean is not None and attack.queries:
        oracle = ScoreOracle(guides[0], batch.pixels, torch.from_numpy(clean), eps=attack.eps, budget=attack.queries)
    sign, memo = torch.from_numpy(direction), batch.gradients
    view = Source(members, batch.x, streams, sign=sign, access=attack.access, memo=memo, target=oracle)
    diagnosed, filters = watched(attack) if bench.plan.suite.diagnostics else (attack, {})
    started = time.perf_counter()
    crafted = craft(diagnosed, batch.pixels, batch.x, view, streams)
    seconds = (time.perf_counter() - started) / len(batch.items)
    images = to_images(crafted.adversarial)
    shas = hashes(images)
    failures = ["" if finite else f"{attack.name} gave NaN or infinite pixels" for finite in crafted.finite]
    if stored or clean is None:
        columns = [_of_image(row) for row in stored]
        failures = [failure or _difference(row, sha) for failure, row, sha in zip(failures, stored, shas, strict=True)]
    else:
        own_gain = direction * (_mean_scores(guides, batch, crafted.adversarial, shas) - clean)
        columns = [
            {
                **batch.distance(i, shas[i], image),
                "direction": direction[i],
                "own_gain": own_gain[i],
                "zero_gradient": float("nan") if view.zero_gradient is None else float(view.zero_gradient[i]),
                "forwards": view.forwards,
                "backwards": view.backwards,
                "queries": float(oracle.queries[i]) if oracle else 0.0,
                "no_response": float(oracle.no_response[i]) if oracle else float("nan"),
                "seconds": seconds,
                "sha256": shas[i],
            }
            for i, image in enumerate(images)
        ]
    on_the_way = dict(oracle.kept(crafted.adversarial)) if oracle else {}
    attacked = Attacked(
        adversarial=crafted.adversarial,
        images=images,
        shift=crafted.shift,
        sha256=shas,
        columns=columns,
        failures=failures,
        unrounded=crafted.unrounded,
        changed=crafted.changed,
        on_the_way=on_the_way,
    )
    if bench.plan.suite.diagnostics and not stored:
        for of_image, diagnostics in zip(columns, own_diagnostics(ascent(batch, attacked), filters), strict=True):
            of_image |= diagnostics
    return attacked


def _difference(row: Row, sha256: str) -> str:
    """Why an image that was crafted again is not the one of a stored row; empty when it is."""
    if row["sha256"] == sha256:
        return ""
    return (
        f"{IRREPRODUCIBLE}: expected sha256 {row['sha256'][:12]}…, found {sha256[:12]}…; run all afresh with"
        " --overwrite always, and with keep = 'adversarials' to add targets later"
    )


def _of_image(row: Row) -> Row:
    """Of a stored row, what holds for its adversarial image whoever scores it."""
    return {name: row[name] for name in ("sha256", *CRAFTED)}


def ascent(batch: Batch, attacked: Attacked) -> Tensor:
    """``s·δ`` of the 8-bit images, ``(N, 3, H, W)``."""
    sign = torch.tensor([columns["direction"] for columns in attacked.columns]).to(batch.x).view(-1, 1, 1, 1)
    return sign * (attacked.adversarial.to(batch.x) / 255 - batch.x)


def _mean_scores(members: Sequence[Scorer], batch: Batch, pixels: Tensor, shas: list[str]) -> np.ndarray:
    return np.mean([batch.score(scorer, pixels, shas) for scorer in members], axis=0)
