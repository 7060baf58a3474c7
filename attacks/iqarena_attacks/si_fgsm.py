"""SI-FGSM — Scale-Invariant attack (Lin, Song, He, Wang, Hopcroft, ICLR 2020, arXiv 1908.06281), on MI-FGSM.

    g_t = 1/m Σ_{i<m} ∇_z f( p + (z_t − p) / 2^i ),   then as MI-FGSM

As published: m = 5, 10 steps of eps/10, decay 1, and copies ``z / 2^i`` on the authors' scale from −1 to 1: of less
contrast about mid-grey, ``pivot`` p = 1/2. With p = 0 they are darker instead, as where [0, 1] is divided. Ours: the
loss is the score itself; a copy of less contrast may have another quality, so the paper's premise, a label that stays,
is weaker. With one scale this is MI-FGSM (or NI-FGSM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class SiFgsm(MiFgsm):
    """scales: m, copies of 1, 1/2, 1/4 … of the contrast
    pivot: p, the level in [0, 1] that copies come nearer to; 0 darkens them
    nesterov: whether it is joined with the step of ni_fgsm, as in the paper
    """

    name = "si_fgsm"
    version = 2
    bibtex = """@inproceedings{lin2020nesterov,
  title = {Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks},
  author = {Lin, Jiadong and Song, Chuanbiao and He, Kun and Wang, Liwei and Hopcroft, John E.},
  booktitle = {ICLR}, year = {2020}, eprint = {1908.06281}
}"""

    scales: Annotated[int, Ge(1)] = 5
    pivot: Annotated[float, Interval(ge=0, le=1)] = 0.5
    nesterov: bool = False

    @property
    def cost(self) -> int:
        return self.steps * self.scales

    def view(self, s: State) -> Tensor:
        return self.ahead(s) if self.nesterov else s.z

    def gradient(self, z: Tensor, s: State) -> Tensor:
        total = s.source.gradient(z)
        for i in range(1, self.scales):
            total = total + s.source.gradient(scaled(z, i, self.pivot)) / 2**i
        return total / self.scales


def scaled(z: Tensor, i: int, pivot: float) -> Tensor:
    """``pivot + (z − pivot) / 2^i``."""
    return z / 2**i + pivot * (1 - 2**-i)
