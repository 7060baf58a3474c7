"""SI-FGSM — Scale-Invariant attack (Lin, Song, He, Wang, Hopcroft, ICLR 2020, arXiv 1908.06281), on MI-FGSM.

    g_t = 1/m Σ_{i<m} ∇_z f( z_t / 2^i ),   then as MI-FGSM

Official values: m = 5 ``scales``, 10 steps of eps/10, decay 1. The paper joins it with the Nesterov step: that is
``nesterov=true``. For scores: the loss is the score itself; a darker copy may well have another quality, so the premise
of the paper, that scaling keeps the label, is weaker here. With one scale this is MI-FGSM (or NI-FGSM).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Source, SpecError, Streams
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class SiFgsm(MiFgsm):
    name = "si_fgsm"
    bibtex = """@inproceedings{lin2020nesterov,
  title = {Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks},
  author = {Lin, Jiadong and Song, Chuanbiao and He, Kun and Wang, Liwei and Hopcroft, John E.},
  booktitle = {ICLR}, year = {2020}, eprint = {1908.06281}
}"""

    scales: int = 5
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scales < 1:
            raise SpecError(f"{self.name}: expected scales ≥ 1, found {self.scales}")

    @property
    def cost(self) -> int:
        return self.steps * self.scales

    def view(self, z: Tensor, memory: Tensor, direction: Tensor) -> Tensor:
        return z + self.decay * self.stride * direction * memory if self.nesterov else z

    def gradient(self, z: Tensor, model: Source, streams: Streams) -> Tensor:
        total = model.gradient(z)
        for i in range(1, self.scales):
            total = total + model.gradient(z / 2**i) / 2**i
        return total / self.scales
