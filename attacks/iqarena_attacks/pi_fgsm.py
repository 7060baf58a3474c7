"""PI-FGSM — Patch-wise Iterative FGSM (Gao, Zhang, Song, Liu, Shen, ECCV 2020, arXiv 2007.06765).

    p_t = beta · alpha · sign ∇f(z_t)
    a_{t+1} = a_t + p_t                                      the amplified perturbation so far
    C = sign(a_{t+1}) · max(|a_{t+1}| − eps, 0)              what the budget cuts off
    q_t = gamma · sign(W * C)                                goes to the neighbours (nothing where nothing is cut off)
    z_{t+1} = Π( z_t + s · (p_t + q_t) ),   a_{t+1} ← a_{t+1} + q_t

``W`` is the mean of the neighbours in a ``size`` × ``size`` window without its middle. Official values: beta 10 (for
normally trained models), gamma = beta · alpha, window 3, 10 steps of eps/10. For scores: the loss is the score itself.
Changed: a cut of less than ``ROUNDING`` counts as none, so that an amplification that just fills the budget (beta 1) is
I-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from iqarena.api import Source, SpecError, Streams
from iqarena_attacks._frame import Iterative

ROUNDING = 1e-6  # sums of ten steps in single precision


@dataclass(frozen=True, kw_only=True, repr=False)
class PiFgsm(Iterative):
    name = "pi_fgsm"
    bibtex = """@inproceedings{gao2020patch,
  title = {Patch-wise Attack for Fooling Deep Neural Network},
  author = {Gao, Lianli and Zhang, Qilong and Song, Jingkuan and Liu, Xianglong and Shen, Heng Tao},
  booktitle = {ECCV}, year = {2020}, eprint = {2007.06765}
}"""

    beta: float = 10.0
    size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise SpecError(f"{self.name}: expected beta > 0, found {self.beta}")
        if self.size < 3 or self.size % 2 == 0:
            raise SpecError(f"{self.name}: expected an odd size ≥ 3, found {self.size}")

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        stride = self.beta * self.stride
        z, a = x, torch.zeros_like(x)
        for _ in range(self.steps):
            p = stride * model.gradient(z).sign()
            a = a + p
            over = a.abs() - self.eps
            cut = a.sign() * over.where(over > ROUNDING, over.new_zeros(()))
            q = stride * self._neighbours(cut).sign()
            a = a + q
            z = self.step(z, direction * (p + q), x)
        return z

    def _neighbours(self, cut: Tensor) -> Tensor:
        """``W * C``; picture by picture, as a convolution of many may round differently."""
        kernel = cut.new_full((3, 1, self.size, self.size), 1 / (self.size**2 - 1))
        kernel[..., self.size // 2, self.size // 2] = 0
        return torch.cat([conv2d(one, kernel, padding="same", groups=3) for one in cut.split(1)])
