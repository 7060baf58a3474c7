"""DI-FGSM — Diverse Inputs (Xie, Zhang, Zhou, Bai, Wang, Ren, Yuille, CVPR 2019, arXiv 1803.06978), on MI-FGSM.

    g_t = ∇_z f( T(z_t) ),   then as MI-FGSM

With probability ``p``, drawn for every picture and step, ``T`` enlarges the picture to a random size and pads it with
black at a random place to ``1 + grow`` times its size; else it is the identity. Official values: p 0.5, from 299 to at
most 330 pixels (``grow`` 0.1), nearest neighbour, 10 steps of eps/10, decay 1. For scores: the loss is the score
itself; the sides of a picture grow in proportion. With p = 0 this is MI-FGSM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from iqarena.api import Source, SpecError, Streams
from iqarena_attacks._frame import through
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class DiFgsm(MiFgsm):
    name = "di_fgsm"
    bibtex = """@inproceedings{xie2019improving,
  title = {Improving Transferability of Adversarial Examples with Input Diversity},
  author = {Xie, Cihang and Zhang, Zhishuai and Zhou, Yuyin and Bai, Song and Wang, Jianyu and Ren, Zhou and
            Yuille, Alan L.},
  booktitle = {CVPR}, year = {2019}, eprint = {1803.06978}
}"""

    p: float = 0.5
    grow: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.p <= 1:
            raise SpecError(f"{self.name}: expected p in [0, 1], found {self.p}")
        if not 0 < self.grow <= 1:
            raise SpecError(f"{self.name}: expected grow in (0, 1], found {self.grow}")

    @property
    def stochastic(self) -> bool:
        return self.p > 0

    def gradient(self, z: Tensor, model: Source, streams: Streams) -> Tensor:
        drawn = streams.uniform(z.new_empty(len(z), 4))
        diverse, plain = (where.nonzero()[:, 0] for where in (drawn[:, 0] < self.p, drawn[:, 0] >= self.p))
        if not len(diverse):
            return model.gradient(z)
        g = torch.empty_like(z)
        g[diverse] = through(partial(self._transform, drawn=drawn[diverse, 1:]), z[diverse], model, diverse)
        if len(plain):
            g[plain] = model.gradient(z[plain], plain)
        return g

    def _transform(self, z: Tensor, drawn: Tensor) -> Tensor:
        """Each picture at its own size and place; ``drawn`` ``(N, 3)`` uniform numbers: size, top, left."""
        height, width = (math.ceil(side * (1 + self.grow)) for side in z.shape[-2:])
        made = []
        for picture, (size, top, left) in zip(z.split(1), drawn.tolist(), strict=True):
            h, w = (side + int(size * (most - side)) for side, most in zip(z.shape[-2:], (height, width), strict=True))
            above, before = int(top * (height - h + 1)), int(left * (width - w + 1))
            made.append(pad(interpolate(picture, (h, w)), (before, width - w - before, above, height - h - above)))
        return torch.cat(made)
