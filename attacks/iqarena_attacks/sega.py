"""SEGA — Signed Ensemble Gaussian attack (arXiv 2509.18546).

    g  = Σ_k w_k · 1/N Σ_i ∇f_k(x + σ u_i),   u_i ~ N(0, I) shared by all k
    g  = M^F(g)                               gradient_filter
    x' = x + M^JND( eps · s · sign g )        mask

Known: equal weights, Gaussian smoothing, one sign after the average, and the bound
``‖ĝ − ∇h‖ ≤ (Lσ + C/σ)·E‖u‖`` behind it. Measured on a published figure: one step, eps 8/255, the binary mask
``JND ≥ 6`` (overlap 0.96). Our reconstruction: N = 20, σ = 8/255, and M^F, read as keeping the strongest half of the
gradient's Fourier coefficients. With K = 1, N = 1, σ = 0 and no filters this is FGSM.

The other dials are ours, for ablation. ``sigma=auto`` is √(C/L) of each picture, at most 1: C from the spread of the
members' scores, L from the mean gradient at the picture and ``PROBE`` further along its sign (two evaluations more,
and two members at least). It is large, as the bound is loose: 130 to 303/255 on four embedded pictures with the five
embedded scorers. ``antithetic`` noise is u, −u, …. ``weights``: ``l2`` divides a member's averaged gradient by its ℓ2
norm on that picture, ``range`` by the highest minus the lowest score the member gives the 24 embedded pictures (24
scores a member and run, not counted). With ``steps`` the averaged gradient is taken anew, under fresh noise, at each
point of MI-FGSM's loop, ``m ← decay · m + g / mean|g|``, in moves of ``alpha`` (``none``: eps / steps) under the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from iqarena.api import AttackError, Filter, Source, SpecError, Streams
from iqarena_attacks._frame import Iterative, unit
from iqarena_attacks._pictures import embedded
from iqarena_attacks.bound import best_sigma, estimate_gap, estimate_lipschitz
from iqarena_attacks.filters.fourier_topk import FourierTopk
from iqarena_attacks.filters.jnd import Jnd

PROBE = 1 / 255  # the step over which sigma=auto sees the gradient turn


@dataclass(frozen=True, kw_only=True, repr=False)
class Sega(Iterative):
    name = "sega"
    reconstructed = "samples, sigma and the Fourier filter are our reading; the JND mask was measured on a figure"
    bibtex = """@article{sega2026,
  title = {SEGA: Signed Ensemble Gaussian attack on no-reference image quality assessment models},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence}, year = {2026}, eprint = {2509.18546}
}"""

    steps: int = 1
    samples: int = 20
    sigma: float | Literal["auto"] = 8 / 255
    gradient_filter: Filter = FourierTopk()  # noqa: RUF009 (frozen)
    mask: Filter = Jnd()  # noqa: RUF009 (frozen)
    weights: Literal["equal", "range", "l2"] = "equal"
    antithetic: bool = False
    shared_noise: bool = True
    decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise SpecError(f"{self.name}: expected samples ≥ 1, found {self.samples}")
        if self.sigma != "auto" and self.sigma < 0:
            raise SpecError(f"{self.name}: expected sigma ≥ 0 or auto, found {self.sigma}")
        if self.decay < 0:
            raise SpecError(f"{self.name}: expected decay ≥ 0, found {self.decay}")

    @property
    def stochastic(self) -> bool:
        return self.sigma != 0 or self.gradient_filter.stochastic or self.mask.stochastic

    @property
    def min_members(self) -> int:
        return 2 if self.sigma == "auto" else 1

    @property
    def cost(self) -> int:
        return self.steps * (self.samples if self.sigma != 0 else 1) + (2 if self.sigma == "auto" else 0)

    @property
    def shared_gradient(self) -> tuple[Any, ...] | None:
        if self.sigma == 0:
            return (0.0, 1) if self.steps == 1 else None
        return None if self.steps > 1 or self.sigma == "auto" else self._smoothing(self.sigma)

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        sigma = self._auto(x, model) if self.sigma == "auto" else self.sigma

        def estimate(z: Tensor, step: int) -> Tensor:
            members = model.smoothed_members(*self._smoothing(sigma), at=z, step=step)[1]
            return self.gradient_filter(self._weighted(members, model), x, streams)

        if self.steps == 1:
            return x + self.mask(self.stride * direction * estimate(x, 0).sign(), x, streams)
        z, m = x, torch.zeros_like(x)
        for t in range(self.steps):
            m = self.decay * m + unit(estimate(z, t))
            z = self.step(z, self.mask(self.stride * direction * m.sign(), x, streams), x)
        return z

    def _smoothing(self, sigma: float | Tensor) -> tuple[float | Tensor, int, bool, bool]:
        return sigma, self.samples, self.antithetic, self.shared_noise

    def _weighted(self, members: Tensor, model: Source) -> Tensor:
        """Mean of the members' gradients ``(K, N, 3, H, W)``, each divided by its norm or range if so asked."""
        if self.weights == "equal":
            return members.mean(0)
        if self.weights == "range":
            size = model.ranges(embedded).to(members).view(-1, 1, 1, 1, 1)
        else:
            size = members.flatten(2).norm(dim=2)[..., None, None, None]
        return (members / size.where(size > 0, size.new_ones(()))).mean(0)

    def _auto(self, x: Tensor, model: Source) -> Tensor:
        """σ of each image, ``(N, 1, 1, 1)``."""
        scores, gradients = model.members(x)
        if len(scores) < 2:
            raise AttackError(f"{self.name}(sigma=auto): expected a source of at least two scorers, found one")
        first = gradients.mean(0)
        move = PROBE * first.sign()
        lipschitz = estimate_lipschitz(first, model.gradient(x + move), move.flatten(1).double().norm(dim=1))
        return best_sigma(lipschitz, estimate_gap(scores)).to(x).view(-1, 1, 1, 1)
