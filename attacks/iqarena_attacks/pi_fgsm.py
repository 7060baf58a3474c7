"""PI-FGSM — Patch-wise Iterative FGSM (Gao, Zhang, Song, Liu, Shen, ECCV 2020, arXiv 2007.06765).

    p_t = beta · alpha · sign ∇f(z_t)
    a_{t+1} = a_t + p_t                                      the amplified perturbation so far
    C = sign(a_{t+1}) · max(|a_{t+1}| − eps, 0)              what the budget cuts off
    q_t = gamma · sign(W * C)                                goes to the neighbours (nothing where nothing is cut off)
    z_{t+1} = Π( z_t + p_t + q_t ),   a_{t+1} ← a_{t+1} + q_t

``W`` is the mean of the neighbours in a ``size`` × ``size`` window without its middle. Official values: beta 10 (for
normally trained models), gamma = beta · alpha, window 3, 10 steps of eps/10. For scores: the loss is the score itself.
Changed: a cut of less than ``ROUNDING`` counts as none, so that an amplification that just fills the budget (beta 1) is
I-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import conv2d

from iqarena.api import ODD
from iqarena_attacks._frame import Iterative, State

ROUNDING = 1e-6  # sums of ten steps in single precision


@dataclass(frozen=True, kw_only=True, repr=False)
class PiFgsm(Iterative):
    """beta: how many times a step is amplified
    size: side in pixels of the window whose middle gives to its neighbours
    """

    name = "pi_fgsm"
    bibtex = """@inproceedings{gao2020patch,
  title = {Patch-wise Attack for Fooling Deep Neural Network},
  author = {Gao, Lianli and Zhang, Qilong and Song, Jingkuan and Liu, Xianglong and Shen, Heng Tao},
  booktitle = {ECCV}, year = {2020}, eprint = {2007.06765}
}"""

    beta: Annotated[float, Gt(0)] = 10.0
    size: Annotated[int, Ge(3), ODD] = 3

    def start(self, s: State) -> None:
        s.memory["a"] = torch.zeros_like(s.x)

    def move(self, s: State) -> Tensor:
        stride = self.beta * self.stride
        p = stride * s.m.sign()
        a = s.memory["a"] + p
        over = a.abs() - self.eps
        cut = a.sign() * over.where(over > ROUNDING, over.new_zeros(()))
        q = stride * self._neighbours(cut).sign()
        s.memory["a"] = a + q
        return p + q

    def _neighbours(self, cut: Tensor) -> Tensor:
        """``W * C``; image by image, as a convolution of many may round differently."""
        kernel = cut.new_full((3, 1, self.size, self.size), 1 / (self.size**2 - 1))
        kernel[..., self.size // 2, self.size // 2] = 0
        return torch.cat([conv2d(one, kernel, padding="same", groups=3) for one in cut.split(1)])
