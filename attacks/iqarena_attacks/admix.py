"""Admix — images mixed with a little of others (Wang, He, Wang, He, ICCV 2021, arXiv 2102.00436), on MI-FGSM.

    g_t = 1/(m·n) Σ_{j<n} Σ_{i<m} ∇_z f( p + (z_t − p + eta · (x_j − p)) / 2^i ),   then as MI-FGSM

As published: n = 3 ``samples`` of other classes, m = 5 ``scales``, eta 0.2, 10 steps of eps/10, decay 1, 150 gradients,
and images on the authors' scale from −1 to 1, whose zero is mid-grey: ``pivot`` p = 1/2. With p = 0 another image
brightens and copies are darker, as where [0, 1] is added and divided. Ours: the loss is the score itself, and as there
are no classes, the ``x_j`` are drawn for every image and step from the embedded reference images, but for its own,
and resized to it. With eta 0 this is SI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn.functional import interpolate

from iqarena.api import Streams
from iqarena_attacks._frame import State
from iqarena_attacks._images import others, references
from iqarena_attacks.mi_fgsm import MiFgsm
from iqarena_attacks.si_fgsm import scaled


@dataclass(frozen=True, kw_only=True, repr=False)
class Admix(MiFgsm):
    """samples: n, other images mixed in
    scales: m, copies of each mixture, of which the gradient is the mean
    eta: share of another image
    pivot: p, the level in [0, 1] that counts as zero of both images
    """

    name = "admix"
    version = 3
    bibtex = """@inproceedings{wang2021admix,
  title = {Admix: Enhancing the Transferability of Adversarial Attacks},
  author = {Wang, Xiaosen and He, Xuanran and Wang, Jingdong and He, Kun},
  booktitle = {ICCV}, year = {2021}, eprint = {2102.00436}
}"""

    samples: Annotated[int, Ge(1)] = 3
    scales: Annotated[int, Ge(1)] = 5
    eta: Annotated[float, Ge(0)] = 0.2
    pivot: Annotated[float, Interval(ge=0, le=1)] = 0.5

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def cost(self) -> int:
        return self.steps * self.samples * self.scales

    def gradient(self, z: Tensor, s: State) -> Tensor:
        total, allowed = torch.zeros_like(z), others(s.x, s.streams.images)
        for _ in range(self.samples):
            mixed = z + self.eta * (_drawn(z, allowed, s.streams) - self.pivot)
            for i in range(self.scales):
                total += s.source.gradient(scaled(mixed, i, self.pivot)) / 2**i
        return total / (self.samples * self.scales)


def _drawn(z: Tensor, allowed: list[tuple[int, ...]], streams: Streams) -> Tensor:
    """One of the ``allowed`` reference images for each image, at its size."""
    drawn = streams.uniform(z.new_empty(len(z), 1)).flatten().tolist()
    places = [among[int(u * len(among))] for u, among in zip(drawn, allowed, strict=True)]
    images = [references()[i : i + 1].float() / 255 for i in places]
    return torch.cat([interpolate(image, z.shape[-2:], mode="area") for image in images]).to(z)
