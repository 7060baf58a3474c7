"""VMI-FGSM — Variance Tuning on MI-FGSM (Wang, He, CVPR 2021, arXiv 2103.15571).

    g_t = ∇f(z_t)
    m_{t+1} = decay · m_t + (g_t + v_t) / mean|g_t + v_t|,   z_{t+1} = Π( z_t + alpha · s · sign m_{t+1} )
    v_{t+1} = 1/N Σ_i ∇f(z_t + r_i) − g_t,   r_i ~ U(−beta · eps, beta · eps)

Official values: N = 20 ``samples``, beta 1.5, 10 steps of eps/10, decay 1. For scores: the loss is the score itself.
The variance after the last step is not used, and not evaluated. With beta 0 this is MI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Source, SpecError, Streams
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class VmiFgsm(MiFgsm):
    name = "vmi_fgsm"
    bibtex = """@inproceedings{wang2021enhancing,
  title = {Enhancing the Transferability of Adversarial Attacks through Variance Tuning},
  author = {Wang, Xiaosen and He, Kun},
  booktitle = {CVPR}, year = {2021}, eprint = {2103.15571}
}"""

    samples: int = 20
    beta: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise SpecError(f"{self.name}: expected samples ≥ 1, found {self.samples}")
        if self.beta < 0:
            raise SpecError(f"{self.name}: expected beta ≥ 0, found {self.beta}")

    @property
    def stochastic(self) -> bool:
        return self.beta > 0 and self.steps > 1

    @property
    def cost(self) -> int:
        return self.steps + (self.steps - 1) * self.samples

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        z, m, v = x, torch.zeros_like(x), torch.zeros_like(x)
        for t in range(self.steps):
            g = model.gradient(self.view(z, m, direction))
            m = self.direction(g + v, m)
            if t < self.steps - 1:
                v = self._around(z, model, streams) - g
            z = self.step(z, m.sign().mul_(self.stride * direction), x)
        return z

    def _around(self, z: Tensor, model: Source, streams: Streams) -> Tensor:
        """Mean gradient of the neighbours of ``z``."""
        total = torch.zeros_like(z)
        for _ in range(self.samples):
            total += model.gradient(z + self.beta * self.eps * (2 * streams.uniform(z) - 1))
        return total / self.samples
