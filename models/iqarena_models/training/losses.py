"""Losses on a batch of ratings ``r (N,)`` and opinion scores ``y (N,)``; all are free of the scores' unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iqarena_models.training.views import Batch

Loss = Callable[[Any, Batch], Tensor]  # network, batch → scalar


def on_opinions(ratings: Callable[[Any, Tensor], Tensor], criterion: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """``criterion`` of ratings and opinion scores on 0–100."""
    return lambda net, batch: criterion(ratings(net, batch.images), batch.mos)


def on_opinions_and_ranks(
    criterion: Callable[[Tensor, Tensor], Tensor], *, slope: float = 1.5, weight: float = 0.5
) -> Loss:
    """``criterion`` of a :class:`~iqarena_models.zoo.net.ScorerNet`'s ratings ``(N, R)`` and of opinion scores in units
    of its line, plus ``weight`` times RankIQA's hinge on the final ratings of degraded images, ``slope`` apart for each
    unit of strength between them."""

    def loss(net: Any, batch: Batch) -> Tensor:
        ratings, n = net.ratings(batch.images).float(), len(batch.mos)
        value = criterion(ratings[:n], (batch.mos - net.shift) / net.scale)
        if not len(batch.strength):
            return value
        plain, (weak, strong) = ratings[: len(batch.strength), -1], ratings[n:, -1].chunk(2)
        first, second = slope * batch.strength.T
        return value + weight * (rank_hinge(plain, weak, first) + rank_hinge(weak, strong, second - first))

    return loss


def correlation(ratings: Tensor, y: Tensor) -> Tensor:
    """:func:`correlation_mse` of the final ratings."""
    return correlation_mse(ratings[:, -1], y)


def linearity(ratings: Tensor, y: Tensor) -> Tensor:
    """LinearityIQA's sum of :func:`norm_in_norm` over two taps and both together, and a tie on the ratings' size."""
    first, second, final = (norm_in_norm(r, y) for r in ratings.T)
    return 0.1 * first + 0.1 * second + final + 0.02 * ratings.square().mean()


def norm_in_norm(r: Tensor, y: Tensor, *, p: float = 1, q: float = 2, variant: float = 0) -> Tensor:
    """Norm-in-norm loss (Li, Jiang, Jiang, ACM MM 2020), in [0, 1].

    Both sides are centred and divided by their ℓq norm, and ``‖r̂ − ŷ‖_p^p`` is divided by its largest value,
    ``(2 N^max(0, 1/p − 1/q))^p``. ``variant`` is the share in the loss of the paper's second form, ``ρ r̂`` in place of
    ``r̂`` with ρ the cosine of both: it forgives a scale that a weak correlation does not deserve.
    """
    a, b = _unit(r, q), _unit(y, q)
    largest = (2 * len(r) ** max(0.0, 1 / p - 1 / q)) ** p
    rho = torch.nn.functional.cosine_similarity(a, b, dim=0)
    plain, second = ((part - b).abs().pow(p).sum() / largest for part in (a, rho * a))
    return (1 - variant) * plain + variant * second


def monotonicity(r: Tensor, y: Tensor) -> Tensor:
    """Monotonicity term of LinearityIQA: the mean over pairs of how far they are rated in the wrong order.

    ``max(0, (r_i − r_j) sign(y_j − y_i))`` over all ordered pairs i ≠ j, divided by 1 + the largest of them.
    """
    wrong = ((r[:, None] - r[None]) * (y[None] - y[:, None]).sign()).clamp_min(0)
    return wrong.sum() / (len(r) * (len(r) - 1)) / (1 + wrong.max())


def fidelity(r: Tensor, y: Tensor) -> Tensor:
    """Fidelity loss over all pairs (Tsai et al., SIGIR 2007), which UNIQUE and LIQE are trained with.

    ``1 − √(p p̂) − √((1−p)(1−p̂))``, ``p`` 1 if ``y_i > y_j``, ½ if they are equal, else 0; ``p̂ = Φ((r_i − r_j)/√2)``.
    """
    i, j = torch.triu_indices(len(r), len(r), 1, device=r.device)
    p = ((y[i] - y[j]).sign() + 1) / 2
    predicted = torch.special.ndtr((r[i] - r[j]) / 2**0.5).clamp(1e-6, 1 - 1e-6)  # the root has no slope at its ends
    return (1 - p.sqrt() * predicted.sqrt() - (1 - p).sqrt() * (1 - predicted).sqrt()).mean()


def ranked_levels(r: Tensor, y: Tensor) -> Tensor:
    """Fidelity loss of scores on 1–5, and a tenth of their squared error against opinion scores on 0–100."""
    return fidelity(r, y) + 0.1 * (r - (1 + y / 25)).square().mean()


def correlation_mse(r: Tensor, y: Tensor) -> Tensor:
    """Half of one minus Pearson's correlation, plus a tenth of the mean squared error (it ties down the scale)."""
    return (1 - (_unit(r) * _unit(y)).sum()) / 2 + 0.1 * (r - y).square().mean()


def rank_hinge(better: Tensor, worse: Tensor, margin: float | Tensor) -> Tensor:
    """Mean of ``max(0, margin - (better - worse))`` (RankIQA, Liu, van de Weijer, Bagdanov, ICCV 2017)."""
    return (margin - (better - worse)).clamp_min(0).mean()


def _unit(v: Tensor, q: float = 2) -> Tensor:
    v = v - v.mean()
    return v / (torch.linalg.vector_norm(v, q) + 1e-8)
