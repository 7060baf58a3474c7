"""VMI-FGSM — Variance Tuning on MI-FGSM (Wang, He, CVPR 2021, arXiv 2103.15571).

    g_t = ∇f(z_t)
    m_{t+1} = decay · m_t + (g_t + v_t) / mean|g_t + v_t|,   z_{t+1} = Π( z_t + alpha · sign m_{t+1} )
    v_{t+1} = 1/N Σ_i ∇f(z_t + r_i) − g_t,   r_i ~ U(−beta · eps, beta · eps)

As published: N = 20 ``samples``, beta 1.5, 10 steps of eps/10, decay 1. At eps 8/255 the neighbours deviate by 6.9/255,
with beta 3.5 by 16/255. Ours: the loss is the score, no variance after the last step. With beta 0 this is MI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class VmiFgsm(MiFgsm):
    """samples: N, neighbours whose mean gradient makes the variance
    beta: how far away they are at most, in eps
    """

    name = "vmi_fgsm"
    bibtex = """@inproceedings{wang2021enhancing,
  title = {Enhancing the Transferability of Adversarial Attacks through Variance Tuning},
  author = {Wang, Xiaosen and He, Kun},
  booktitle = {CVPR}, year = {2021}, eprint = {2103.15571}
}"""

    samples: Annotated[int, Ge(1)] = 20
    beta: Annotated[float, Ge(0)] = 1.5

    @property
    def stochastic(self) -> bool:
        return self.beta > 0 and self.steps > 1

    @property
    def cost(self) -> int:
        return self.steps + (self.steps - 1) * self.samples

    def start(self, s: State) -> None:
        s.memory["v"] = torch.zeros_like(s.x)

    def gradient(self, z: Tensor, s: State) -> Tensor:
        g, v = s.source.gradient(z), s.memory["v"]
        if s.t < self.steps - 1:
            s.memory["v"] = self._around(s) - g
        return g + v

    def _around(self, s: State) -> Tensor:
        """Mean gradient of the neighbours of ``z``."""
        total = torch.zeros_like(s.z)
        for _ in range(self.samples):
            total += s.source.gradient(s.z + self.beta * self.eps * (2 * s.streams.uniform(s.z) - 1))
        return total / self.samples
