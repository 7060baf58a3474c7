"""SSA — Spectrum Simulation Attack (Long, Zhang, Zeng, Gao, Liu, Zhang, Song, ECCV 2022, arXiv 2207.05382).

    g_t = 1/N Σ_i ∇f( D⁻¹( D(z_t + ξ_i) ⊙ M_i ) ),   ξ_i ~ N(0, σ²),   M_i ~ U(1 − rho, 1 + rho)
    m_{t+1} = decay · m_t + g_t / mean|g_t|,   z_{t+1} = Π( z_t + alpha · sign m_{t+1} )

``D`` is the orthonormal discrete cosine transform of a whole channel; the gradient is taken at the changed image and
used as it is, as in the authors' code. As published: N = 20 ``samples``, rho 0.5, σ = 16/255 = eps, 10 steps of
eps/10, no momentum (S²I-FGSM; with decay 1 it is S²MI-FGSM, its better form). Ours: the loss is the score itself; σ is
kept at 16/255 as eps changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from scipy.fft import dctn, idctn
from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class Ssa(MiFgsm):
    """samples: N, changed images of which the gradient is the mean
    rho: how far a coefficient is scaled up or down at most
    sigma: standard deviation of the noise, in [0, 1] units
    """

    name = "ssa"
    bibtex = """@inproceedings{long2022frequency,
  title = {Frequency Domain Model Augmentation for Adversarial Attack},
  author = {Long, Yuyang and Zhang, Qilong and Zeng, Boheng and Gao, Lianli and Liu, Xianglong and Zhang, Jian and
            Song, Jingkuan},
  booktitle = {ECCV}, year = {2022}, eprint = {2207.05382}
}"""

    decay: float = 0.0
    samples: Annotated[int, Ge(1)] = 20
    rho: Annotated[float, Interval(ge=0, le=1)] = 0.5
    sigma: Annotated[float, Ge(0)] = 16 / 255

    @property
    def stochastic(self) -> bool:
        return self.sigma > 0 or self.rho > 0

    @property
    def cost(self) -> int:
        return self.steps * self.samples

    def gradient(self, z: Tensor, s: State) -> Tensor:
        total = torch.zeros_like(z)
        for _ in range(self.samples):
            noisy = z + self.sigma * s.streams.normal(z)
            total += s.source.gradient(reweighted(noisy, 1 + self.rho * (2 * s.streams.uniform(z) - 1)))
        return total / self.samples


def reweighted(x: Tensor, weights: Tensor) -> Tensor:
    """``D⁻¹( D(x) ⊙ weights )``."""
    spectrum = dctn(x.cpu().numpy(), axes=(2, 3), norm="ortho") * weights.cpu().numpy()
    return torch.from_numpy(idctn(spectrum, axes=(2, 3), norm="ortho")).to(x)
