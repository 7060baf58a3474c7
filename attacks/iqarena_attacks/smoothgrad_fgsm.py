"""SmoothGrad-FGSM — one sign step along the SmoothGrad map (Smilkov et al., ICML workshop 2017, arXiv 1706.03825).

    x' = x + eps · s · sign( 1/N Σ_i ∇f(x + σ u_i) ),   u_i ~ N(0, I)

The paper (Smilkov, Thorat, Kim, Viégas, Wattenberg) averages gradients of noisy copies for pictures of saliency, with
N = 50 and σ of 10 to 20 % of the range of the input. Ours: the sign step, and N = 20, σ = 8/255, so that it is SEGA
without filters, on whatever source, and shares its gradients. With σ = 0 this is FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from iqarena.api import Attack, Source, SpecError, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class SmoothgradFgsm(Attack):
    name = "smoothgrad_fgsm"
    bibtex = """@misc{smilkov2017smoothgrad,
  title = {SmoothGrad: removing noise by adding noise},
  author = {Smilkov, Daniel and Thorat, Nikhil and Kim, Been and Vi{\\'e}gas, Fernanda and Wattenberg, Martin},
  year = {2017}, eprint = {1706.03825}
}"""

    samples: int = 20
    sigma: float = 8 / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise SpecError(f"{self.name}: expected samples ≥ 1, found {self.samples}")
        if self.sigma < 0:
            raise SpecError(f"{self.name}: expected sigma ≥ 0, found {self.sigma}")

    @property
    def stochastic(self) -> bool:
        return self.sigma > 0

    @property
    def cost(self) -> int:
        return self.samples if self.sigma > 0 else 1

    @property
    def shared_gradient(self) -> tuple[Any, ...]:
        return (self.sigma, self.samples, False, True) if self.sigma > 0 else (0.0, 1)

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        return x + self.eps * direction * model.smoothed_gradient(self.sigma, self.cost).sign()
