"""SEGA's error bound: its terms, where it is attained, and the error measured on scorers with known constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import Model
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena_attacks._smoothing import Smoothing
from iqarena_attacks.bound import best_sigma, error_bound, estimate_gap, estimate_lipschitz, mean_norm

SHAPE = (3, 4, 4)
D = 48
X = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
SIGMAS = [0.02, 0.1, 0.3, 1.0]
REPEATS, SAMPLES = 8, 96


def test_the_mean_norm_of_normal_vectors() -> None:
    assert mean_norm(1) == pytest.approx(math.sqrt(2 / math.pi))
    assert mean_norm(2) == pytest.approx(math.sqrt(math.pi / 2))
    drawn = torch.randn(20_000, D, generator=torch.Generator().manual_seed(1)).norm(dim=1)
    assert mean_norm(D) == pytest.approx(float(drawn.mean()), abs=4 * float(drawn.std()) / 20_000**0.5)
    assert mean_norm(3 * 288 * 384) == pytest.approx((3 * 288 * 384) ** 0.5, rel=1e-5)


# ---- one dimension, where the bound is attained


def _extremal_error(sigma: float, lipschitz: float, gap: float) -> float:
    """``|E ∇f̄(σu) − ∇h(0)|`` by quadrature for ``h = L x|x| / 2`` and ``f̄ = h + C tanh(x / τ)``, τ a hundredth of σ.

    ``∇h = L|x|`` turns as fast as it may, and sources and target are C apart nearly everywhere.
    """
    u = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    density = (-(u**2) / 2).exp() / math.sqrt(2 * math.pi)
    x, tau = sigma * u, sigma / 100
    slope = lipschitz * x.abs() + gap / tau / (x / tau).clamp(-300, 300).cosh() ** 2
    return float(torch.trapezoid(slope * density, u))


def test_the_bound_is_attained_and_its_optimum_is_the_errors() -> None:
    lipschitz, gap = 3.0, 0.75
    grid = torch.logspace(-2, 1, 121, dtype=torch.float64).tolist()
    errors = [_extremal_error(sigma, lipschitz, gap) for sigma in grid]
    for sigma, error in zip(grid, errors, strict=True):
        assert 0.999 * error_bound(sigma, lipschitz, gap, 1) < error <= error_bound(sigma, lipschitz, gap, 1)
    actual = grid[errors.index(min(errors))]
    assert actual == pytest.approx(math.sqrt(gap / lipschitz), rel=0.03)  # half a step of the grid
    assert float(best_sigma(torch.tensor([lipschitz]), torch.tensor([gap]))) == pytest.approx(0.5)


@pytest.mark.parametrize(("lipschitz", "gap", "dimension"), [(3, 0.2, 1), (0.5, 20, 48), (100, 1, 10_000)])
def test_the_bound_is_smallest_at_the_best_sigma(lipschitz: float, gap: float, dimension: int) -> None:
    best = float(best_sigma(torch.tensor(float(lipschitz)), torch.tensor(float(gap)), limit=100))
    least = error_bound(best, lipschitz, gap, dimension)
    assert least == pytest.approx(2 * math.sqrt(lipschitz * gap) * mean_norm(dimension))
    assert all(error_bound(best * factor, lipschitz, gap, dimension) > least for factor in (0.5, 0.9, 1.1, 2))


def test_the_best_sigma_is_capped() -> None:
    assert best_sigma(torch.tensor([0.0, 1.0, 4.0]), torch.tensor([2.0, 2.0, 1.0])).tolist() == [1, 1, 0.5]
    assert best_sigma(torch.zeros(1), torch.zeros(1)).tolist() == [1]


# ---- scorers with known or estimated constants


class Target(nn.Module):
    """A linear, a quadratic or a small network scorer; ``ripple`` adds ``c · sin(w·x)``, to make a source of it."""

    def __init__(self, kind: str, ripple: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(7)
        self.kind = kind
        self.a = nn.Parameter(torch.randn(D, generator=g))
        square = torch.randn(D, D, generator=g) / D**0.5
        self.square = nn.Parameter(square + square.T)
        self.first, self.last = (
            nn.Parameter(torch.randn(12, D, generator=g) / 3),
            nn.Parameter(torch.randn(12, generator=g)),
        )
        g = torch.Generator().manual_seed(ripple)
        self.c = 1.5 * (ripple > 0)
        self.w = nn.Parameter(torch.randn(D, generator=g))

    def forward(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1)
        if self.kind == "linear":
            y = z @ self.a
        elif self.kind == "quadratic":
            y = ((z @ self.square) * z).sum(1) / 2
        else:
            y = 5 * (torch.tanh(z @ self.first.T) * self.last).sum(1)
        return 50 + y + self.c * torch.sin(z @ self.w)


@dataclass(frozen=True, kw_only=True, repr=False)
class Rippled(Model):
    name = "rippled"

    kind: str = "linear"
    ripple: int = 0

    def load(self) -> nn.Module:
        return Target(self.kind, self.ripple)


def _known(target: Target) -> tuple[float, float]:
    """L of a linear or quadratic target; C is the height of the ripples."""
    return (0.0 if target.kind == "linear" else float(torch.linalg.matrix_norm(target.square.detach(), 2))), 1.5


def _estimated(target: Target) -> tuple[float, float]:
    """The largest spectral norm of a Hessian, and the largest gap, over points around ``X``."""
    sources = [Target(target.kind, ripple) for ripple in (1, 2)]
    points = X + torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        gap = (torch.stack([source(points) for source in sources]).mean(0) - target(points)).abs().max()
    z = torch.cat(
        [X + scale * (p - X) for p, scale in zip(points[:200].split(1), torch.linspace(0, 1, 200), strict=True)]
    )
    t = torch.tanh((z - 0.5).flatten(1) @ target.first.T)
    curvature = -2 * t * (1 - t**2) * 5 * target.last  # of each unit; the Hessian is Wᵀ diag(curvature) W
    hessians = torch.einsum("nu,ui,uj->nij", curvature, target.first, target.first)
    return float(torch.linalg.matrix_norm(hessians.detach(), 2).max()), float(gap)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("kind", "constants"), [("linear", _known), ("quadratic", _known), ("network", _estimated)])
def test_the_measured_error_is_under_the_bound(
    kind: str, constants: Callable[[Target], tuple[float, float]], sigma: float
) -> None:
    target = Target(kind, 0)
    truth = Scorer(Rippled(kind=kind)).value_and_gradient(X)[1]
    scorers = [Scorer(Rippled(kind=kind, ripple=ripple)) for ripple in (1, 2)]
    draws = torch.cat([_smoothed(scorers, sigma, seed) - truth for seed in range(REPEATS)]).double()
    noise = float((draws.var(0).sum() / REPEATS).sqrt())  # expected norm of the Monte Carlo error of the mean
    error = float(draws.mean(0).norm())
    bound = error_bound(sigma, *constants(target), D)
    assert error + 3 * noise <= bound
    assert noise < 0.25 * bound, "else the measurement says nothing"
    if kind != "network":  # both are their own smoothed function up to the ripples, which smoothing flattens
        expected = sum(_flattened(Target(kind, ripple), sigma) for ripple in (1, 2)) / 2
        assert float((draws.mean(0) - expected).norm()) < 3 * noise
        assert sigma > 0.1 or error > 3 * noise, "sources and target do differ"


def _smoothed(scorers: list[Scorer], sigma: float, seed: int) -> Tensor:
    return Source(scorers, X, Streams(["x"], "bound", seed)).gradient(X, Smoothing(sigma, SAMPLES))


def _flattened(source: Target, sigma: float) -> Tensor:
    """Gradient of ``E c · sin(w·(x + σu)) = c · sin(w·x) · exp(−σ²‖w‖²/2)``."""
    w = source.w.detach().double()
    slope = source.c * torch.cos((X - 0.5).flatten().double() @ w) * torch.exp(-(sigma**2) * w.square().sum() / 2)
    return (slope * w).view(SHAPE)


# ---- the two estimates


def test_lipschitz_is_exact_along_the_worst_direction_and_lower_elsewhere() -> None:
    scorer, target = Scorer(Rippled(kind="quadratic")), Target("quadratic", 0)
    values, vectors = torch.linalg.eigh(target.square.detach())
    worst = int(values.abs().argmax())
    for direction, exact in ((vectors[:, worst], True), (vectors[:, 24], False), (torch.ones(D), False)):
        move = 0.1 * direction.reshape(1, *SHAPE)
        first, second = (scorer.value_and_gradient(at)[1] for at in (X, X + move))
        actual = float(estimate_lipschitz(first, second, move.norm().view(1)))
        assert actual == pytest.approx(float(values[worst].abs()), rel=1e-3) if exact else actual < values[worst].abs()


def test_the_gap_is_that_of_one_more_draw() -> None:
    for members in (2, 3, 5):
        drawn = torch.randn(members + 1, 50_000, generator=torch.Generator().manual_seed(members), dtype=torch.float64)
        away = (drawn[0] - drawn[1:].mean(0)).square().mean()
        assert float(estimate_gap(drawn[1:]).square().mean()) == pytest.approx(float(away), rel=0.03)
