"""FGSM — Fast Gradient Sign Method (Goodfellow, Shlens, Szegedy, ICLR 2015, arXiv 1412.6572).

    x' = x + eps · s · sign ∇f(x)

For scores: the loss is the score itself, raised (s = +1) or lowered (s = −1).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Attack, Source, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Fgsm(Attack):
    name = "fgsm"
    bibtex = """@inproceedings{goodfellow2015explaining,
  title = {Explaining and Harnessing Adversarial Examples},
  author = {Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian},
  booktitle = {ICLR}, year = {2015}, eprint = {1412.6572}
}"""

    @property
    def shared_gradient(self) -> tuple[float, int]:
        return 0.0, 1

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        return x + self.eps * direction * model.gradient(x).sign()
