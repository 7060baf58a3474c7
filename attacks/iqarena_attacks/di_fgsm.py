"""DI-FGSM — Diverse Inputs (Xie, Zhang, Zhou, Bai, Wang, Ren, Yuille, CVPR 2019, arXiv 1803.06978), on MI-FGSM.

    g_t = ∇_z f( T(z_t) ),   then as MI-FGSM

With probability ``p``, drawn for every image and step, ``T`` enlarges the image to a random size and pads it with
mid-grey at a random place to ``1 + grow`` times its size; else it is the identity. As published: p 0.5, from 299 to at
most 330 pixels (``grow`` 0.1), nearest neighbour, zeros on the authors' scale from −1 to 1 as padding, which is
mid-grey, 10 steps of eps/10, decay 1. Ours: the loss is the score itself; the sides of an image grow in proportion.
With p = 0 this is MI-FGSM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import interpolate, pad

from iqarena_attacks._frame import State, through
from iqarena_attacks.mi_fgsm import MiFgsm

MID_GREY = 0.5


@dataclass(frozen=True, kw_only=True, repr=False)
class DiFgsm(MiFgsm):
    """p: probability of another size and place, for each image and step
    grow: share by which the padded image is larger
    """

    name = "di_fgsm"
    version = 2
    bibtex = """@inproceedings{xie2019improving,
  title = {Improving Transferability of Adversarial Examples with Input Diversity},
  author = {Xie, Cihang and Zhang, Zhishuai and Zhou, Yuyin and Bai, Song and Wang, Jianyu and Ren, Zhou and
            Yuille, Alan L.},
  booktitle = {CVPR}, year = {2019}, eprint = {1803.06978}
}"""

    p: Annotated[float, Interval(ge=0, le=1)] = 0.5
    grow: Annotated[float, Interval(gt=0, le=1)] = 0.1

    @property
    def stochastic(self) -> bool:
        return self.p > 0

    def gradient(self, z: Tensor, s: State) -> Tensor:
        drawn = s.streams.uniform(z.new_empty(len(z), 4))
        diverse, plain = (where.nonzero()[:, 0] for where in (drawn[:, 0] < self.p, drawn[:, 0] >= self.p))
        if not len(diverse):
            return s.source.gradient(z)
        g = torch.empty_like(z)
        g[diverse] = through(partial(self._transform, drawn=drawn[diverse, 1:]), z[diverse], s.source.of(diverse))
        if len(plain):
            g[plain] = s.source.of(plain).gradient(z[plain])
        return g

    def _transform(self, z: Tensor, drawn: Tensor) -> Tensor:
        """Each image at its own size and place; ``drawn`` ``(N, 3)`` uniform numbers: size, top, left."""
        height, width = (math.ceil(side * (1 + self.grow)) for side in z.shape[-2:])
        images = []
        for image, (size, top, left) in zip(z.split(1), drawn.tolist(), strict=True):
            h, w = (
                side + int(size * (limit - side)) for side, limit in zip(z.shape[-2:], (height, width), strict=True)
            )
            above, before = int(top * (height - h + 1)), int(left * (width - w + 1))
            sides = (before, width - w - before, above, height - h - above)
            images.append(pad(interpolate(image, (h, w)), sides, value=MID_GREY))
        return torch.cat(images)
