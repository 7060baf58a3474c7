"""Losses on a batch of ratings ``r (N,)`` and opinion scores ``y (N,)``; all are free of the scores' unit."""

from __future__ import annotations

import torch
from torch import Tensor


def norm_in_norm(r: Tensor, y: Tensor) -> Tensor:
    """Norm-in-norm loss (Li, Jiang, Jiang, ACM MM 2020) with q = 2, p = 1, in [0, 1].

    Both sides are centred and divided by their ℓ2 norm; the ℓ1 distance is divided by its largest value, ``2√N``.
    """
    return (_unit(r) - _unit(y)).abs().sum() / (2 * len(r) ** 0.5)


def correlation_mse(r: Tensor, y: Tensor) -> Tensor:
    """Half of one minus Pearson's correlation, plus a tenth of the mean squared error (it ties down the scale)."""
    return (1 - (_unit(r) * _unit(y)).sum()) / 2 + 0.1 * (r - y).square().mean()


def rank_hinge(better: Tensor, worse: Tensor, margin: float) -> Tensor:
    """Mean of ``max(0, margin - (better - worse))`` (RankIQA, Liu, van de Weijer, Bagdanov, ICCV 2017)."""
    return (margin - (better - worse)).clamp_min(0).mean()


def _unit(v: Tensor) -> Tensor:
    v = v - v.mean()
    return v / (torch.linalg.vector_norm(v) + 1e-8)
