"""Score-boundary attack (arXiv 2401.05217, TCSVT 2024): step by step past boundaries of the score, from scores alone.

    for 20 rounds:  z₀ = last image;   draw directions d until  f(box(z₀ + d))  is past the boundary b;
                    SurFree from there towards z₀ along the boundary;   b ← b + (b − previous b)

The box is ``|x' − x| ≤ 0.38·JND(x)/255``, per pixel, counted from the clean image. As published: 20 rounds, first
boundary 0.01, at most 200 directions for a boundary and 6,000 in all, SurFree with 10 steps that lead nearer and 100
queries, about 8,000 queries. ``boundary.py`` has the schedule, ``directions.py`` the directions, ``surfree.py`` the
refinement.

Ours: images are rounded to 8 bit before they are asked for, so the box is in whole grey levels; a round must pass the
score that is reached already, wherever its boundary lies, so that no accepted round goes back; the queries of the lines
at both ends of a refinement count among its 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from iqarena.api import ImageSet
from iqarena.images.perception import jnd_map
from iqarena.images.sets.pocket import PocketImages
from iqarena.images.tensors import maps
from iqarena_attacks.query._frame import Case, Query, Search, ask, begin
from iqarena_attacks.query.boundary import FAILURES, Boundary
from iqarena_attacks.query.directions import Directions
from iqarena_attacks.query.surfree import nearer

DRAWS, REFINEMENT = 6000, 100


@dataclass(frozen=True, kw_only=True, repr=False)
class ScoreBoundary(Query):
    """jnd: how far a pixel may go, as a multiple of its JND; none leaves the box to eps
    rounds: boundaries
    steps: directions of SurFree that lead nearer, for a boundary
    images: set whose reference images directions are drawn from, or its own where it has none
    """

    name = "score_boundary"
    version = 3
    reconstructed = (
        "the saliency detector, the share of sparse noise, which reference images, and queries of 8 bits are ours"
    )
    published = "DBCNN loses 0.6381 of SROCC on LIVE (160 test images, 224 crops, 8,000 queries)."
    bibtex = """@article{scoreboundary2024,
  title = {Exploring Vulnerabilities of No-Reference Image Quality Assessment Models: A Query-Based Black-Box Method},
  journal = {IEEE Transactions on Circuits and Systems for Video Technology}, year = {2024}, eprint = {2401.05217}
}"""

    eps: float = 1.0
    jnd: Annotated[float, Gt(0)] | None = 0.38
    rounds: Annotated[int, Ge(1)] = 20
    steps: Annotated[int, Ge(0)] = 10
    images: ImageSet = PocketImages()  # noqa: RUF009 (frozen)

    def reach(self, x: Tensor) -> Tensor:
        eps = super().reach(x)
        if self.jnd is None:
            return eps
        return torch.minimum(eps, (self.jnd * maps(jnd_map, x)).floor() / 255)

    def search(self, case: Case) -> Search:
        boundary, directions, draws = Boundary(), Directions(case, self.images), 0
        here = (yield from begin(case)) / case.headroom
        for _ in range(self.rounds):
            start, failures, there = case.answer, 0, 0.0
            while there <= max(boundary.b, here):
                if failures == FAILURES:
                    failures = 0
                    if not boundary.ease():
                        return
                if draws == DRAWS:
                    return
                z = case.box(start + directions.draw())
                there = (yield from ask(z)) / case.headroom
                draws, failures = draws + 1, failures + 1
            case.answer = z
            level = max(boundary.reach(there), here)
            gain = yield from nearer(
                case, start, there * case.headroom, level * case.headroom, queries=REFINEMENT, steps=self.steps
            )
            here = gain / case.headroom
            boundary.move_on()
