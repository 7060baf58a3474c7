"""I-FGSM — the basic iterative method (Kurakin, Goodfellow, Bengio, ICLR workshop 2017, arXiv 1607.02533).

    z_{t+1} = Π( z_t + alpha · sign ∇f(z_t) ),   z_0 = x

Official values: steps of 1/255, as many as ``min(eps + 4, 1.25 eps)`` grey levels. Here, as in the literature on
transfer, 10 steps of eps/10. For scores: the loss is the score itself. ``pgd`` is the same with steps of 2/255.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqarena_attacks._frame import Iterative


@dataclass(frozen=True, kw_only=True, repr=False)
class IFgsm(Iterative):
    name = "i_fgsm"
    bibtex = """@inproceedings{kurakin2017adversarial,
  title = {Adversarial Examples in the Physical World},
  author = {Kurakin, Alexey and Goodfellow, Ian and Bengio, Samy},
  booktitle = {ICLR Workshop}, year = {2017}, eprint = {1607.02533}
}"""
