"""NI-FGSM — Nesterov Iterative FGSM (Lin, Song, He, Wang, Hopcroft, ICLR 2020, arXiv 1908.06281).

    g_t = ∇f( z_t + alpha · decay · m_t ),   then as MI-FGSM

MI-FGSM that looks ahead along its momentum; the point looked at is not clipped, as in the authors' code. Official
values: 10 steps of eps/10, decay 1. For scores: the loss is the score itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class NiFgsm(MiFgsm):
    name = "ni_fgsm"
    bibtex = """@inproceedings{lin2020nesterov,
  title = {Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks},
  author = {Lin, Jiadong and Song, Chuanbiao and He, Kun and Wang, Liwei and Hopcroft, John E.},
  booktitle = {ICLR}, year = {2020}, eprint = {1908.06281}
}"""

    def view(self, s: State) -> Tensor:
        return self.ahead(s)
