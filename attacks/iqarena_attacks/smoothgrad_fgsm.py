"""SmoothGrad-FGSM — one sign step along the SmoothGrad map (Smilkov et al., ICML workshop 2017, arXiv 1706.03825).

    x' = x + eps · sign( 1/N Σ_i ∇f(x + σ u_i) ),   u_i ~ N(0, I)

The paper (Smilkov, Thorat, Kim, Viégas, Wattenberg) averages gradients of noisy copies for maps of saliency, with
N = 50 and σ of 10 to 20 % of the range of the input. Ours: the sign step, and N = 20, σ = 8/255, so that it is SEGA
without filters, on whatever source, and shares its gradients. With σ = 0 this is FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from iqarena.api import EXACT, Attack, Estimate, Source, Streams
from iqarena_attacks._smoothing import Smoothing


@dataclass(frozen=True, kw_only=True, repr=False)
class SmoothgradFgsm(Attack):
    """samples: N, noisy copies
    sigma: standard deviation of the noise, in [0, 1] units
    """

    name = "smoothgrad_fgsm"
    bibtex = """@misc{smilkov2017smoothgrad,
  title = {SmoothGrad: removing noise by adding noise},
  author = {Smilkov, Daniel and Thorat, Nikhil and Kim, Been and Vi{\\'e}gas, Fernanda and Wattenberg, Martin},
  year = {2017}, eprint = {1706.03825}
}"""
    reconstructed = "the sign step, samples and sigma are ours; the paper averages gradients for maps of saliency"

    samples: Annotated[int, Ge(1)] = 20
    sigma: Annotated[float, Ge(0)] = 8 / 255

    @property
    def stochastic(self) -> bool:
        return self.sigma > 0

    @property
    def cost(self) -> int:
        return self.samples if self.sigma > 0 else 1

    @property
    def shared_gradient(self) -> Estimate:
        return Smoothing(self.sigma, self.samples) if self.sigma > 0 else EXACT

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x + self.eps * source.gradient(x, self.shared_gradient).sign()
