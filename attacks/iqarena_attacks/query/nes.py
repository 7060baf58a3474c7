"""NES — natural evolution strategies (Ilyas, Engstrom, Athalye, Lin, ICML 2018, arXiv 1804.08598).

    ĝ = 1/(σ n) Σ_{i ≤ n/2} ( f(z + σ u_i) − f(z − σ u_i) ) u_i,   u_i ~ N(0, I),   z ← Π( z + alpha · s · sign ĝ )

Official values: n = 50, σ = 0.001, steps of 0.01. For scores: ``f`` is the score. Changed: σ = 4/255, because a query
is an image of 8 bits, in which σ = 0.001 leaves almost nothing; steps of 2/255; every new ``z`` is queried, so that
the answer is the best of them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from iqarena.api import EVEN
from iqarena_attacks.query._frame import Case, Query, Search, ask, begin


@dataclass(frozen=True, kw_only=True, repr=False)
class Nes(Query):
    """samples: n, queries for a gradient
    sigma: standard deviation of the noise, in [0, 1] units
    alpha: length of a step in [0, 1] units
    """

    name = "nes"
    bibtex = """@inproceedings{ilyas2018black,
  title = {Black-box Adversarial Attacks with Limited Queries and Information},
  author = {Ilyas, Andrew and Engstrom, Logan and Athalye, Anish and Lin, Jessy},
  booktitle = {ICML}, year = {2018}, eprint = {1804.08598}
}"""
    reconstructed = "sigma, the length of a step and the query of each new point are ours, for images of 8 bits"

    samples: Annotated[int, Ge(2), EVEN] = 50
    sigma: Annotated[float, Gt(0)] = 4 / 255
    alpha: Annotated[float, Gt(0)] = 2 / 255

    def search(self, case: Case) -> Search:
        best = yield from begin(case)
        z = case.answer
        while pairs := min(self.samples, case.left - 1) // 2:
            z = case.box(z + self.alpha * (yield from self.gradient(z, case, pairs)).sign())
            gain = yield from ask(z)
            if gain > best:
                best, case.answer = gain, z

    def gradient(self, z: Tensor, case: Case, pairs: int) -> Generator[Tensor, Tensor, Tensor]:
        """Estimate of ``s·∇f`` at ``z`` from ``2 · pairs`` queries; candidates are brought into reach."""
        g = torch.zeros_like(z)
        for _ in range(pairs):
            u = case.draw.normal(z[None])[0]
            up, down = yield case.box(torch.stack([z + self.sigma * u, z - self.sigma * u]))
            g += float(up - down) * u
        return g / (2 * pairs * self.sigma)
