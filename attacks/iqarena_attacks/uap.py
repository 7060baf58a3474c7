"""One universal perturbation (Shumitskaya, Antsiferova, Vatolin, BMVC 2022, arXiv 2211.00366), for a source.

    m ← decay · m + g / mean|g|,  g = ∇f(x_j + δ),   δ ← clip( δ + alpha · s · sign m, ±eps ),   j = 1 … over and over
    x' = x + δ   (tiled or cropped to x)

The same for all pictures, so that no gradient at the picture itself is needed; after Moosavi-Dezfooli et al., CVPR
2017, arXiv 1610.08401. The paper trains on thousands of pictures with Adam. Ours is trained on the 13 embedded
photographs, 384×288, without one that the picture under attack shows, in turn, one step for each: ``steps`` in all,
of ``alpha``, under momentum. There is one δ for raising and one for lowering, made once in a run for the same source
and the same photograph left out. Every picture is charged with the ``steps`` gradients of its δ, as if it were made
for it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Source, Streams
from iqarena_attacks._pictures import others, photographs
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class Uap(MiFgsm):
    name = "uap"
    reconstructed = "training set, steps and the rule of the step are ours"
    bibtex = """@inproceedings{shumitskaya2022universal,
  title = {Universal Perturbation Attack on Differentiable No-Reference Image- and Video-Quality Metrics},
  author = {Shumitskaya, Ekaterina and Antsiferova, Anastasia and Vatolin, Dmitriy S.},
  booktitle = {BMVC}, year = {2022}, eprint = {2211.00366}
}"""

    steps: int = 24
    alpha: float | None = 1 / 255

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        keys = list(zip(others(x), direction.flatten().tolist(), strict=True))
        delta = model.per_run(self.train, keys)
        repeats = [-(-want // have) for want, have in zip(x.shape[-2:], delta.shape[-2:], strict=True)]
        return x + delta.repeat(1, 1, *repeats)[..., : x.shape[-2], : x.shape[-1]].to(x)

    def train(self, model: Source, key: tuple[tuple[int, ...], float]) -> Tensor:
        """δ ``(3, 288, 384)`` from the photographs at these places, to raise (+1) or lower (−1) their scores."""
        places, s = key
        delta = m = torch.zeros_like(photographs()[:1])
        for t in range(self.steps):
            i = places[t % len(places)]
            seen = (photographs()[i : i + 1] + delta).clamp(0, 1)
            m = self.direction(model.gradient(seen).to(m), m)
            delta = (delta + self.stride * s * m.sign()).clamp(-self.eps, self.eps)
        return delta[0]
