"""Square attack, ℓ∞ (Andriushchenko, Croce, Flammarion, Hein, ECCV 2020, arXiv 1912.00049).

    δ = vertical stripes of ±eps;   then a square of side √(p·H·W) at a random place is set to ±eps, one sign a channel,
    and stays so if s·f rises;   p is halved at 0.1, 0.5, 2, 5, 10, 20, 40, 60, 80 % of the queries

Official: p = 0.05 on ImageNet. ``eps = 3/255`` is the budget of Ran et al.'s comparison on image quality. For scores:
the margin loss becomes the score itself, and stripes that do not help are given up for the clean image.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval

from iqarena_attacks.query._frame import Case, Query, Search, ask, begin

SCHEDULE = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of the queries at which p is halved


@dataclass(frozen=True, kw_only=True, repr=False)
class Square(Query):
    """p: share of the pixels in the first square"""

    name = "square"
    bibtex = """@inproceedings{andriushchenko2020square,
  title = {Square Attack: a query-efficient black-box adversarial attack via random search},
  author = {Andriushchenko, Maksym and Croce, Francesco and Flammarion, Nicolas and Hein, Matthias},
  booktitle = {ECCV}, year = {2020}, eprint = {1912.00049}
}"""

    eps: float = 3 / 255
    p: Annotated[float, Interval(gt=0, le=1)] = 0.05

    def search(self, case: Case) -> Search:
        best = yield from begin(case)
        height, width = case.x.shape[-2:]
        if not best:
            stripes = case.box(case.x + case.reach * case.draw.signs(case.x.new_empty(1, 3, 1, width))[0])
            gain = yield from ask(stripes)
            if gain > 0:
                best, case.answer = gain, stripes
        while True:
            share = self.p / 2 ** bisect_right(SCHEDULE, 1 - case.left / self.queries)
            side = max(1, min(round((share * height * width) ** 0.5), height, width))
            row, column, *signs = case.uniform(5)
            top, left = int(row * (height - side + 1)), int(column * (width - side + 1))
            window = (slice(None), slice(top, top + side), slice(left, left + side))
            sign = torch.tensor([1.0 if u < 0.5 else -1.0 for u in signs]).to(case.x).view(3, 1, 1)
            z = case.answer.clone()
            z[window] = (case.x[window] + case.reach[window] * sign).clamp(0, 1)
            if torch.equal(z[window], case.answer[window]):
                continue  # the square is there already: the same image is not worth a query
            gain = yield from ask(z)
            if gain > best:
                best, case.answer = gain, z
