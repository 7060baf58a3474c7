"""How steep a scorer is and how far attacks move it, white-box: what gradient-norm regularisation is about.

The theorem of its paper (arXiv 2403.11397): ``max |f(x + δ) − f(x)|`` over ``‖δ‖∞ ≤ eps`` is ``eps · ‖∇f(x)‖₁`` to
first order. :func:`theorem` measures both sides, image by image, with ``δ = eps · sign ∇f(x)``, the one that the first
order is about. A change is the mean of the absolute changes with the attack upwards and downwards: what is of second
order cancels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqarena.api import Attack, Model
from iqarena.api.spec import Number
from iqarena.api.streams import Streams
from iqarena.engine.craft import craft
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.tensors import to_float, to_pixels

DIRECTIONS = (1.0, -1.0)
Images = Sequence[tuple[str, np.ndarray]]  # id and pixels, uint8 (H, W, 3)


def theorem(model: Model, images: Images, eps: Sequence[str], device: str) -> list[dict[str, Any]]:
    """One record an image and ``eps`` (written ``1/255``): ``gradient_l1`` in points per unit of [0, 1], ``change``.

    The perturbed image is clipped to the box but not rounded to 8 bits, so that ``eps`` may be a part of a level.
    """
    scorer, records = Scorer(model, device), []
    budgets = [Number(one).value for one in eps]
    for id, image in images:
        x = to_float([image]).to(scorer.device)
        score, gradient = scorer.value_and_gradient(x)
        norm = float(gradient.abs().double().sum())
        for budget in budgets:
            moved = ((x + way * budget * gradient.sign()).clamp(0, 1) for way in DIRECTIONS)
            records.append({
                "model": model.label, "scorer": model.undefended.label, "hardened": bool(model.defenses),
                "image": id, "score": float(score), "gradient_l1": norm, "eps": budget,
                "change": _change(scorer, moved, float(score)),
            })  # fmt: skip
    return records


def attacked(model: Model, images: Images, attacks: Sequence[Attack], device: str) -> dict[str, float]:
    """Mean change in points of the score under each attack's 8-bit images, and the mean ``gradient_l1``."""
    scorer = Scorer(model, device)
    norms, changes = [], {attack.label: list[float]() for attack in attacks}
    for id, image in images:
        pixels = to_pixels([image]).to(scorer.device)
        x = pixels.float() / 255
        score, gradient = scorer.value_and_gradient(x)
        norms.append(float(gradient.abs().double().sum()))
        memo: dict[Any, Any] = {}
        for attack in attacks:
            moved = (_attacked(scorer, attack, pixels, x, id, way, memo) for way in DIRECTIONS)
            changes[attack.label].append(_change(scorer, moved, float(score)))
    return {"gradient_l1": float(np.mean(norms))} | {f"change {k}": float(np.mean(v)) for k, v in changes.items()}


def _attacked(
    scorer: Scorer, attack: Attack, pixels: Tensor, x: Tensor, id: str, direction: float, memo: dict[Any, Any]
) -> Tensor:
    streams = Streams([id], attack.label)
    source = Source([scorer], x, streams, sign=torch.tensor([direction]), access=attack.access, memo=memo)
    return craft(attack, pixels, x, source, streams).adversarial.to(x) / 255


def _change(scorer: Scorer, moved: Iterable[Tensor], score: float) -> float:
    return float(np.mean([abs(float(scorer.score(x)) - score) for x in moved]))
