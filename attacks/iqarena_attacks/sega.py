"""SEGA — Signed Ensemble Gaussian attack (arXiv 2509.18546).

    g  = 1/K Σ_k 1/N Σ_i ∇f_k(x + σ u_i),   u_i ~ N(0, I) shared by all k
    g  = M^F(g)                              gradient_filter
    x' = x + M^JND( eps · s · sign g )       mask

Known: equal weights, Gaussian smoothing, one sign after the average, and the bound
``‖ĝ − ∇h‖ ≤ (Lσ + C/σ)·E‖u‖`` behind it. Measured on a published figure: one step, eps 8/255, the binary mask
``JND ≥ 6`` (overlap 0.96). Our reconstruction: N = 20, σ = 8/255, and M^F, read as keeping the strongest half of the
gradient's Fourier coefficients. With K = 1, N = 1, σ = 0 and no filters this is FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Attack, Filter, SpecError
from iqarena.seeding import Streams
from iqarena.source import Source
from iqarena_attacks.filters.fourier_topk import FourierTopk
from iqarena_attacks.filters.jnd import Jnd


@dataclass(frozen=True, kw_only=True, repr=False)
class Sega(Attack):
    name = "sega"
    reconstructed = "samples, sigma and the Fourier filter are our reading; the JND mask was measured on a figure"
    bibtex = """@article{sega2026,
  title = {SEGA: Signed Ensemble Gaussian attack on no-reference image quality assessment models},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence}, year = {2026}, eprint = {2509.18546}
}"""

    samples: int = 20
    sigma: float = 8 / 255
    gradient_filter: Filter = FourierTopk()  # noqa: RUF009 (frozen)
    mask: Filter = Jnd()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise SpecError(f"{self.name}: expected samples ≥ 1, found {self.samples}")
        if self.sigma < 0:
            raise SpecError(f"{self.name}: expected sigma ≥ 0, found {self.sigma}")

    @property
    def stochastic(self) -> bool:
        return self.sigma > 0 or self.gradient_filter.stochastic or self.mask.stochastic

    @property
    def cost(self) -> int:
        return self.samples if self.sigma > 0 else 1

    @property
    def shared_gradient(self) -> tuple[float, int]:
        return self.sigma, self.cost

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        g = self.gradient_filter(model.smoothed_gradient(self.sigma, self.samples), x, streams)
        return x + self.mask(self.eps * direction * g.sign(), x, streams)
