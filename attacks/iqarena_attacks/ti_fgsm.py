"""TI-FGSM — Translation-Invariant attack (Dong, Pang, Su, Zhu, CVPR 2019, arXiv 1904.02884), on MI-FGSM.

    g_t = W * ∇f(z_t),   then as MI-FGSM

``W`` is a normalised Gaussian kernel of ``size`` × ``size`` pixels that ends ``reach`` deviations from its middle: the
blurred gradient stands for the mean gradient over shifted images. Official values: 15 × 15, 3 deviations, 10 steps of
eps/10, decay 1. For scores: the loss is the score itself. With size 1 this is MI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import conv2d

from iqarena.api import ODD
from iqarena_attacks._frame import State
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class TiFgsm(MiFgsm):
    """size: side of the kernel in pixels
    reach: standard deviations from its middle to its end
    """

    name = "ti_fgsm"
    bibtex = """@inproceedings{dong2019evading,
  title = {Evading Defenses to Transferable Adversarial Examples by Translation-Invariant Attacks},
  author = {Dong, Yinpeng and Pang, Tianyu and Su, Hang and Zhu, Jun},
  booktitle = {CVPR}, year = {2019}, eprint = {1904.02884}
}"""

    size: Annotated[int, Ge(1), ODD] = 15
    reach: Annotated[float, Gt(0)] = 3.0

    def gradient(self, z: Tensor, s: State) -> Tensor:
        line = self.line().to(z)
        return torch.cat([blurred(one, line) for one in s.source.gradient(z).split(1)])

    def line(self) -> Tensor:
        """``W`` is the outer product of this line ``(size,)``, of sum 1, and itself."""
        at = torch.linspace(-self.reach, self.reach, self.size) if self.size > 1 else torch.zeros(1)
        return (-(at**2) / 2).softmax(0)


def blurred(t: Tensor, line: Tensor) -> Tensor:
    """One image ``(1, 3, H, W)`` under a separable kernel, zeros beyond the border."""
    planes = t.transpose(0, 1)
    planes = conv2d(planes, line.view(1, 1, -1, 1), padding="same")
    return conv2d(planes, line.view(1, 1, 1, -1), padding="same").transpose(0, 1)
