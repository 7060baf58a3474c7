"""SI-FGSM — Scale-Invariant attack (Lin, Song, He, Wang, Hopcroft, ICLR 2020, arXiv 1908.06281), on MI-FGSM.

    g_t = 1/m Σ_{i<m} ∇_z f( z_t / 2^i ),   then as MI-FGSM

Official values: m = 5, 10 steps of eps/10, decay 1. For scores: the loss is the score itself; a darker copy may have
another quality, so the paper's premise, a label that stays, is weaker. With one scale this is MI-FGSM (or NI-FGSM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class SiFgsm(MiFgsm):
    """scales: m, copies z, z/2, z/4 …
    nesterov: whether it is joined with the step of ni_fgsm, as in the paper
    """

    name = "si_fgsm"
    bibtex = """@inproceedings{lin2020nesterov,
  title = {Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks},
  author = {Lin, Jiadong and Song, Chuanbiao and He, Kun and Wang, Liwei and Hopcroft, John E.},
  booktitle = {ICLR}, year = {2020}, eprint = {1908.06281}
}"""

    scales: Annotated[int, Ge(1)] = 5
    nesterov: bool = False

    @property
    def cost(self) -> int:
        return self.steps * self.scales

    def view(self, s: State) -> Tensor:
        return s.z + self.decay * self.stride * s.m if self.nesterov else s.z

    def gradient(self, z: Tensor, s: State) -> Tensor:
        total = s.source.gradient(z)
        for i in range(1, self.scales):
            total = total + s.source.gradient(z / 2**i) / 2**i
        return total / self.scales
