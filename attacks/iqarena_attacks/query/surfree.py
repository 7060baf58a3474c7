"""SurFree (Maho, Furon, Le Merrer, CVPR 2021, arXiv 2011.12807): nearer to an origin, along a boundary.

With ``o`` the origin, ``b`` an image past the boundary, ``d = ‖b − o‖``, ``u = (b − o)/d``, and ``v`` a random unit
vector orthogonal to ``u`` and to the last directions::

    z(θ) = o + d·cos θ·(cos θ · u + sin θ · v)          at distance d·cos θ from the origin

``θ = ±θ_max`` is tried; if one is past the boundary, θ_max grows by 1/ρ and a binary search between θ and 2θ finds the
largest angle that still is; else θ_max shrinks by ρ. ``v`` is drawn from the lowest half of the frequencies of the DCT.
Values: ρ = 0.98, θ_max = 30°, T = 1, 10 orthogonal directions, at most 10 halvings, down to 0.01°.

For scores: past the boundary means ``s·(f(z) − f(x)) > level``; candidates are brought into reach. Alone, the origin is
the clean image, and the boundary lies at the share ``boundary`` of the way to the end of the scale. The first
image past it is searched among random low-frequency ones; after 20 in vain the boundary is put at half of the best
gain so far (ours).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

import scipy.fft
import torch
from annotated_types import Interval
from torch import Tensor

from iqarena_attacks.query._frame import Case, Query, Search, ask, begin

RHO, THETA_MAX, ORTHOGONAL, HALVINGS, FINEST = 0.98, 30.0, 10, 10, 0.01
TRIES = 20


@dataclass(frozen=True, kw_only=True, repr=False)
class SurFree(Query):
    """boundary: where it lies, as a share of the way to the end of the scale"""

    name = "surfree"
    reconstructed = "as an attack of its own on scores: the boundary's place and the search for a first image past it"
    bibtex = """@inproceedings{maho2021surfree,
  title = {SurFree: a fast surrogate-free black-box attack},
  author = {Maho, Thibault and Furon, Teddy and Le Merrer, Erwan},
  booktitle = {CVPR}, year = {2021}, eprint = {2011.12807}
}"""

    eps: float = 8 / 255
    boundary: Annotated[float, Interval(gt=0, lt=1)] = 0.1

    def search(self, case: Case) -> Search:
        level, tries = self.boundary * case.headroom, 0
        gain = yield from begin(case)
        while gain <= level:
            wave = low_frequencies(case)
            z = case.box(case.x + case.reach * wave / wave.abs().max() * 4)
            reached = yield from ask(z)
            tries += 1
            if reached > gain:
                gain, case.answer = reached, z
            if tries >= TRIES and gain > 0:
                level = min(level, gain / 2)
        yield from nearer(case, case.x, gain, level, queries=self.queries, steps=self.queries)


def nearer(
    case: Case, origin: Tensor, gain: float, level: float, *, queries: int, steps: int
) -> Generator[Tensor, Tensor, float]:
    """Bring ``case.answer``, whose ``gain`` is above ``level``, nearer to ``origin``, keeping it so; its gain then."""
    theta_max, earlier, spent = THETA_MAX, [], 0
    for _ in range(steps):
        offset = case.answer - origin
        distance = float(offset.norm())
        if distance == 0 or spent >= queries:
            break
        u = offset / distance
        v = _orthogonal(low_frequencies(case), [*earlier, u])
        earlier = [*earlier, v][-ORTHOGONAL:]

        def at(theta: float, u: Tensor = u, v: Tensor = v, distance: float = distance) -> Tensor:
            cos, sin = math.cos(math.radians(theta)), math.sin(math.radians(theta))
            return case.box(torch.add(origin, u, alpha=distance * cos * cos).add_(v, alpha=distance * cos * sin))

        def past(theta: float) -> Generator[Tensor, Tensor, bool]:
            nonlocal spent, gain
            spent, z = spent + 1, at(theta)
            reached = yield from ask(z)
            if reached > level:
                gain, case.answer = reached, z
            return reached > level

        best = 0.0
        for theta in (theta_max, -theta_max):
            if (yield from past(theta)):
                best = theta
                break
        if not best:
            theta_max *= RHO
            continue
        theta_max = min(theta_max / RHO, 45.0)
        beyond = 2 * best
        for _ in range(HALVINGS):
            if spent >= queries or abs(beyond - best) < FINEST:
                break
            middle = (best + beyond) / 2
            if (yield from past(middle)):
                best = middle
            else:
                beyond = middle
    return gain


def low_frequencies(case: Case) -> Tensor:
    """A random image of the lowest half of the DCT's frequencies in each direction, ``(3, H, W)``."""
    height, width = case.x.shape[-2:]
    coefficients = case.draw.normal(torch.empty(1, 3, -(-height // 2), -(-width // 2)))[0].numpy()
    wave = scipy.fft.idctn(coefficients, s=(height, width), axes=(1, 2), norm="ortho")
    return torch.from_numpy(wave).to(case.x)


def _orthogonal(t: Tensor, basis: list[Tensor]) -> Tensor:
    """The unit vector of ``t`` without its parts along the unit vectors of ``basis``."""
    for one in basis:
        t = t.sub(one, alpha=float(torch.dot(t.flatten(), one.flatten())))
    return t / t.norm().clamp(min=1e-12)
