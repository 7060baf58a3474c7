"""SEGA — Signed Ensemble Gaussian attack (arXiv 2509.18546).

    g  = Σ_k w_k · 1/N Σ_i ∇f_k(x + σ u_i),   u_i ~ N(0, I) shared by all k
    g  = M^F(g)                               gradient_filter
    x' = x + M^JND( eps · sign g )            mask

Known: equal weights, Gaussian smoothing, one sign after the average, and the bound
``‖ĝ − ∇h‖ ≤ (Lσ + C/σ)·E‖u‖`` behind it. Measured on a published figure: one step, eps 8/255, the binary mask
``JND ≥ 6`` (overlap 0.96). Our reconstruction: N = 20, σ = 8/255, and M^F, read as keeping the strongest half of the
gradient's Fourier coefficients. With K = 1, N = 1, σ = 0 and no filters this is FGSM.

The other dials are ours, for ablation. ``sigma=auto`` is √(C/L) of each image, at most 1: C from the spread of the
members' scores, L from the mean gradient at the image and 1/255 further along its sign (two evaluations more, and two
members at least). It is large, as the bound is loose: 45 to 241/255 on crops of 112² of twelve embedded images with the
five embedded scorers. ``weights``: ``l2`` divides a member's averaged gradient by its ℓ2 norm on that image, ``range``
by the member's highest less its lowest score of the 52 embedded images (not counted). With ``steps`` g is taken anew,
under fresh noise, at each point of MI-FGSM's loop, ``m ← decay · m + g / mean|g|``, moves of ``alpha`` under the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

from iqarena.api import EXACT, Estimate, Filter, Source
from iqarena_attacks._frame import Iterative, State, unit
from iqarena_attacks._images import ranges
from iqarena_attacks._smoothing import Smoothing
from iqarena_attacks.bound import sigma_of
from iqarena_attacks.filters.fourier_topk import FourierTopk
from iqarena_attacks.filters.jnd import Jnd


@dataclass(frozen=True, kw_only=True, repr=False)
class Sega(Iterative):
    """samples: N, noisy copies whose gradient is averaged
    sigma: σ of the noise, in [0, 1] units; auto is √(C/L) of each image
    gradient_filter: M^F, of the averaged gradient
    mask: M^JND, of the perturbation
    weights: w_k of the members
    antithetic: whether the noise is u, −u, …
    shared_noise: whether all members see the same noise
    decay: share of the momentum that stays from step to step
    """

    name = "sega"
    reference = True
    reconstructed = "samples, sigma and the Fourier filter are our reading; the JND mask was measured on a figure"
    bibtex = """@article{sega2026,
  title = {SEGA: Signed Ensemble Gaussian attack on no-reference image quality assessment models},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence}, year = {2026}, eprint = {2509.18546}
}"""

    steps: int = 1
    samples: Annotated[int, Ge(1)] = 20
    sigma: Annotated[float, Ge(0)] | Literal["auto"] = 8 / 255
    gradient_filter: Filter = FourierTopk()  # noqa: RUF009 (frozen)
    mask: Filter = Jnd()  # noqa: RUF009 (frozen)
    weights: Literal["equal", "range", "l2"] = "equal"
    antithetic: bool = False
    shared_noise: bool = True
    decay: Annotated[float, Ge(0)] = 0.0

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
    def shared_gradient(self) -> Estimate | None:
        return None if self.steps > 1 or self.sigma == "auto" else self._estimate(self.sigma)

    def start(self, s: State) -> None:
        if self.sigma == "auto":
            s.memory["sigma"] = sigma_of(s.x, s.source)

    def gradient(self, z: Tensor, s: State) -> Tensor:
        sigma = tuple(s.memory["sigma"].tolist()) if self.sigma == "auto" else self.sigma
        members = s.source.members(z, self._estimate(sigma, s.t))[1]
        return self.gradient_filter(self._weighted(members, s.source), s.x, s.streams)

    def accumulate(self, g: Tensor, m: Tensor) -> Tensor:
        return self.decay * m + unit(g)

    def move(self, s: State) -> Tensor:
        return self.mask(super().move(s), s.x, s.streams)

    def project(self, z: Tensor, s: State) -> Tensor:
        return super().project(z, s) if self.steps > 1 else z  # a single step is left to the sealed call, as FGSM's

    def _estimate(self, sigma: float | tuple[float, ...], step: int = 0) -> Estimate:
        return EXACT if sigma == 0 else Smoothing(sigma, self.samples, self.antithetic, self.shared_noise, step)

    def _weighted(self, g: Tensor, source: Source) -> Tensor:
        """Mean of the members' gradients ``(K, N, 3, H, W)``, each divided by its norm or range if so asked."""
        if self.weights == "equal":
            return g.mean(0)
        if self.weights == "range":
            size = ranges(source).to(g).view(-1, 1, 1, 1, 1)
        else:
            size = g.flatten(2).norm(dim=2)[..., None, None, None]
        return (g / size.where(size > 0, size.new_ones(()))).mean(0)
