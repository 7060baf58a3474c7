"""One universal perturbation (Shumitskaya, Antsiferova, Vatolin, BMVC 2022, arXiv 2211.00366), for a source.

    m ← decay · m + g / mean|g|,  g = ∇f(x_j + δ),   δ ← clip( δ + alpha · sign m, ±eps ),   j = 1 … over and over
    x' = x + δ   (tiled or cropped to x)

The same for all images, so that no gradient at the image itself is needed; after Moosavi-Dezfooli et al., CVPR 2017,
arXiv 1610.08401. The paper trains on thousands of images with Adam. Ours is trained on embedded reference images,
384×288, without that of the image under attack: one step of ``alpha`` for each in turn, under momentum, which the
default of ``steps`` ends after the first 24 of 52. There is one δ for raising and one for lowering, trained once a run
for the same source and the same reference image left out. Every image is charged with the ``steps`` gradients of its δ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Source, Streams
from iqarena_attacks._frame import State
from iqarena_attacks._images import others, references
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class Uap(MiFgsm):
    name = "uap"
    version = 2
    trains_on = (288, 384)
    reconstructed = "training set, steps and the rule of the step are ours"
    bibtex = """@inproceedings{shumitskaya2022universal,
  title = {Universal Perturbation Attack on Differentiable No-Reference Image- and Video-Quality Metrics},
  author = {Shumitskaya, Ekaterina and Antsiferova, Anastasia and Vatolin, Dmitriy S.},
  booktitle = {BMVC}, year = {2022}, eprint = {2211.00366}
}"""

    steps: int = 24
    alpha: float | None = 1 / 255

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        each = [(source.of([i]), places) for i, places in enumerate(others(x, streams.images))]
        delta = torch.stack([s.once((self, p, float(s.sign)), lambda s, p=p: self.train(s, p)) for s, p in each])
        tiles = [-(-side // trained) for side, trained in zip(x.shape[-2:], delta.shape[-2:], strict=True)]
        return x + delta.repeat(1, 1, *tiles)[..., : x.shape[-2], : x.shape[-1]].to(x)

    def train(self, source: Source, places: tuple[int, ...]) -> Tensor:
        """δ ``(3, 288, 384)``: the loop's ``z``, whose ``x`` are the reference images at these places."""
        x = references()[list(places[: self.steps])].float() / 255
        zero = torch.zeros_like(x[:1])
        return self.ascend(State(x, zero, source, Streams([], ""), zero))[0]

    def view(self, s: State) -> Tensor:
        return (s.x[[s.t % len(s.x)]] + s.z).clamp(0, 1)

    def project(self, z: Tensor, s: State) -> Tensor:
        return z.clamp(-self.eps, self.eps)
