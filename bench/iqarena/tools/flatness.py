"""How steep a scorer is and how far attacks move it, white-box: what gradient-norm regularisation is about.

The theorem of its paper (arXiv 2403.11397): ``max |f(x + δ) − f(x)|`` over ``‖δ‖∞ ≤ eps`` is ``eps · ‖∇f(x)‖₁`` to
first order. :func:`theorem` measures both sides, picture by picture, with FGSM as the δ that the first order is about.
A change is the mean of the absolute changes with the attack upwards and downwards: what is of second order cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqarena.api import Attack, ImageItem, Model
from iqarena.api.streams import Streams
from iqarena.engine.craft import craft
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_attack

DIRECTIONS = (1.0, -1.0)


def theorem(model: Model, items: Sequence[ImageItem], eps: Sequence[str], device: str) -> list[dict[str, Any]]:
    """One record a picture and ``eps`` (written ``1/255``): ``gradient_l1`` in points per unit of [0, 1], ``change``.

    The perturbed picture is clipped to the box but not rounded to 8 bits, so that ``eps`` may be a part of a level.
    """
    scorer, records = Scorer(model, device), []
    attacks = [build_attack(f"fgsm(eps={one})") for one in eps]
    for item in items:
        pixels = _pixels(item).to(scorer.device)
        score, gradient = scorer.value_and_gradient(pixels.float() / 255)
        norm, memo = float(gradient.abs().double().sum()), {}
        for attack in attacks:
            change = _change(scorer, attack, pixels, item, float(score), memo, rounded=False)
            records.append({
                "model": model.label, "scorer": model.undefended.label, "hardened": bool(model.defenses),
                "image": item.id, "score": float(score), "gradient_l1": norm, "eps": attack.eps, "change": change,
            })  # fmt: skip
    return records


def attacked(model: Model, items: Sequence[ImageItem], attacks: Sequence[str], device: str) -> dict[str, float]:
    """Mean change in points of the score under each attack's 8-bit pictures, and the mean ``gradient_l1``."""
    scorer, built = Scorer(model, device), [build_attack(spec) for spec in attacks]
    norms, changes = [], {attack.label: list[float]() for attack in built}
    for item in items:
        pixels = _pixels(item).to(scorer.device)
        score, gradient = scorer.value_and_gradient(pixels.float() / 255)
        norms.append(float(gradient.abs().double().sum()))
        memo: dict[Any, Any] = {}
        for attack in built:
            changes[attack.label].append(_change(scorer, attack, pixels, item, float(score), memo, rounded=True))
    return {"gradient_l1": float(np.mean(norms))} | {f"change {k}": float(np.mean(v)) for k, v in changes.items()}


def _pixels(item: ImageItem) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(PocketImages().read(item))).permute(2, 0, 1)[None].contiguous()


def _change(
    scorer: Scorer, attack: Attack, pixels: Tensor, item: ImageItem, score: float, memo: dict[Any, Any], rounded: bool
) -> float:
    x, changes = pixels.float() / 255, []
    for direction in DIRECTIONS:
        streams = Streams([item.id], attack.label)
        sign = torch.tensor([direction])
        source = Source([scorer], x, streams, sign=sign, access=attack.access, memo=memo)
        made = craft(attack, pixels, x, source, streams)
        moved = made.adversarial.to(x) / 255 if rounded else made.unrounded
        changes.append(abs(float(scorer.score(moved)) - score))
    return float(np.mean(changes))
