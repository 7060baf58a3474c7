"""FGSM — Fast Gradient Sign Method (Goodfellow, Shlens, Szegedy, ICLR 2015, arXiv 1412.6572).

    x' = x + eps · sign ∇f(x)

For scores: the loss f is the score itself, or minus the score where it is to be lowered.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import EXACT, Attack, Exact, Source, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Fgsm(Attack):
    name = "fgsm"
    bibtex = """@inproceedings{goodfellow2015explaining,
  title = {Explaining and Harnessing Adversarial Examples},
  author = {Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian},
  booktitle = {ICLR}, year = {2015}, eprint = {1412.6572}
}"""

    @property
    def shared_gradient(self) -> Exact:
        return EXACT

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x + self.eps * source.gradient(x).sign()
