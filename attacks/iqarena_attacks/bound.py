"""SEGA's error bound (arXiv 2509.18546), and the two constants in it estimated from what an attacker has.

With ``h`` the target, ``∇h`` L-Lipschitz, ``f̄`` the mean of the sources, ``|f̄ − h| ≤ C`` everywhere, and
``ĝ(x) = E ∇f̄(x + σu)``, ``u ~ N(0, I)`` in ``d`` dimensions::

    ‖ĝ(x) − ∇h(x)‖ ≤ (L σ + C / σ) · E‖u‖,   E‖u‖ = √2 Γ((d + 1)/2) / Γ(d/2)

It is smallest at ``σ = √(C / L)``. The first term is the bias of smoothing ``h``; the second, by Stein's identity
``E ∇(f̄ − h)(x + σu) = E[(f̄ − h)(x + σu) u] / σ``, is what is left of the difference between sources and target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iqarena.api import AttackError, Source

PROBE = 1 / 255  # the step over which the gradient is seen to turn


def mean_norm(dimension: int) -> float:
    """``E‖u‖`` of a standard normal vector; about ``√dimension``."""
    return math.sqrt(2) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2))


def error_bound(sigma: float, lipschitz: float, gap: float, dimension: int) -> float:
    """The bound, in points per pixel value; ``lipschitz`` L in points, ``gap`` C in points, ``sigma`` > 0."""
    return (lipschitz * sigma + gap / sigma) * mean_norm(dimension)


def best_sigma(lipschitz: Tensor, gap: Tensor, limit: float = 1.0) -> Tensor:
    """``√(C / L)`` where the bound is smallest, and not over ``limit`` (a flat gradient allows any)."""
    return torch.where(gap < limit**2 * lipschitz, (gap / lipschitz).sqrt(), torch.full_like(gap, limit))


def estimate_gap(scores: Tensor) -> Tensor:
    """C of each image ``(N,)`` from the members' scores ``(K, N)``, K ≥ 2.

    The target is taken for one more draw from where the members came from: it lies a deviation of
    ``s · √(1 + 1/K)`` from their mean, ``s`` their sample deviation.
    """
    return scores.std(0) * (1 + 1 / len(scores)) ** 0.5


def estimate_lipschitz(first: Tensor, second: Tensor, distance: Tensor) -> Tensor:
    """L of each image ``(N,)`` from gradients ``(N, 3, H, W)`` at two points a ``distance`` ``(N,)`` apart.

    A difference quotient: no larger than the true constant, which takes the worst pair of points.
    """
    return (first - second).flatten(1).double().norm(dim=1) / distance


def sigma_of(x: Tensor, source: Source) -> Tensor:
    """The best σ of each image of ``x``, ``(N,)``, from two evaluations of at least two members.

    The second is ``PROBE`` further up the score, whichever way the attack goes.
    """
    scores, gradients = source.members(x)
    if len(scores) < 2:
        raise AttackError("sigma=auto: expected a source of at least two scorers, found one")
    g = gradients.mean(0)
    move = PROBE * source.sign * g.sign()
    lipschitz = estimate_lipschitz(g, source.gradient(x + move), move.flatten(1).double().norm(dim=1))
    return best_sigma(lipschitz, estimate_gap(scores)).to(x)
