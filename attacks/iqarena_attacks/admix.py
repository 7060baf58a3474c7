"""Admix — pictures mixed with a little of others (Wang, He, Wang, He, ICCV 2021, arXiv 2102.00436), on MI-FGSM.

    g_t = 1/(m·n) Σ_{j<n} Σ_{i<m} ∇_z f( (z_t + eta · x_j) / 2^i ),   then as MI-FGSM

Official values: n = 3 ``samples`` of other classes, m = 5 ``scales``, eta 0.2, 10 steps of eps/10, decay 1; and 150
gradients. For scores: the loss is the score itself, and as there are no classes, the ``x_j`` are drawn for every
picture and step from the 13 embedded photographs, but for one that it shows, and resized to it. With eta 0 this is
SI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iqarena.api import Source, SpecError, Streams
from iqarena_attacks._pictures import others, photographs
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class Admix(MiFgsm):
    name = "admix"
    bibtex = """@inproceedings{wang2021admix,
  title = {Admix: Enhancing the Transferability of Adversarial Attacks},
  author = {Wang, Xiaosen and He, Xuanran and Wang, Jingdong and He, Kun},
  booktitle = {ICCV}, year = {2021}, eprint = {2102.00436}
}"""

    samples: int = 3
    scales: int = 5
    eta: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise SpecError(f"{self.name}: expected samples ≥ 1, found {self.samples}")
        if self.scales < 1:
            raise SpecError(f"{self.name}: expected scales ≥ 1, found {self.scales}")
        if self.eta < 0:
            raise SpecError(f"{self.name}: expected eta ≥ 0, found {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def cost(self) -> int:
        return self.steps * self.samples * self.scales

    def gradient(self, z: Tensor, model: Source, streams: Streams) -> Tensor:
        total, allowed = torch.zeros_like(z), others(z)
        for _ in range(self.samples):
            mixed = z + self.eta * _drawn(z, allowed, streams)
            for i in range(self.scales):
                total += model.gradient(mixed / 2**i) / 2**i
        return total / (self.samples * self.scales)


def _drawn(z: Tensor, allowed: list[tuple[int, ...]], streams: Streams) -> Tensor:
    """One of the ``allowed`` photographs for each picture, at its size."""
    drawn = streams.uniform(z.new_empty(len(z), 1)).flatten().tolist()
    places = [some[int(u * len(some))] for u, some in zip(drawn, allowed, strict=True)]
    return torch.cat([interpolate(photographs()[i : i + 1], z.shape[-2:], mode="area") for i in places]).to(z)
