"""SurFree (Maho, Furon, Le Merrer, CVPR 2021, arXiv 2011.12807): nearer to an origin, along a boundary.

With ``o`` the origin, ``b`` an image past the boundary, ``d = ‖b − o‖``, ``u = (b − o)/d``, and ``v`` a random unit
vector orthogonal to ``u`` and, nearly, to the last directions::

    z(θ) = o + d·cos θ·(cos θ · u + sin θ · v)          at distance d·cos θ from the origin

``θ = ±θ_max`` is tried; if one is past the boundary, θ_max grows by 1/ρ and a binary search between θ and 2θ finds the
largest angle that still is, to γ in ``1 − cos θ``; else θ_max shrinks by ρ and another ``v`` is drawn. It begins and
ends with a binary search on the line from ``o``. ``v`` has the lowest half of the frequencies of the DCT.

As published: ρ 0.98, θ_max 30°, γ 0.01, at most 10 halvings. As the score-boundary attack has it: T 1 and 10 orthogonal
directions (the authors of SurFree: 3 and 100), and a step is a direction that leads nearer, looked for with up to 80
tries.

Ours: the coefficients of ``v`` are normal numbers (there they are −1, 0 or 1, in zigzag order, and may be weighed with
the image's own); past the boundary means ``s·(f(z) − f(x)) > level``; candidates are brought into reach; θ_max stays
below 45°, 2θ itself is not tried, and the last 10 queries are left for the last line, which is halved until no pixel
moves by half a grey level. Alone, the origin is the clean image, steps have no limit but the queries, and the boundary
lies at the share ``boundary`` of the way to the end of the scale. The first image past it is searched among random
low-frequency ones; after 20 in vain the boundary is put at half of the best gain so far. What it lessens is the
distance to the clean image; the gain falls to the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Annotated

import scipy.fft
import torch
from annotated_types import Interval
from torch import Tensor

from iqarena_attacks.query._frame import Case, Query, Search, ask, begin

RHO, THETA_MAX, GAMMA, ORTHOGONAL, HALVINGS, TRIES = 0.98, 30.0, 0.01, 10, 10, 80
FIRST_TRIES = 20

Curve = Callable[[float], Tensor]


@dataclass(frozen=True, kw_only=True, repr=False)
class SurFree(Query):
    """boundary: where it lies, as a share of the way to the end of the scale"""

    name = "surfree"
    version = 2
    reconstructed = (
        "as an attack of its own on scores: the boundary's place and the search for a first image past it; random"
        " directions, T and the number of orthogonal ones are not those of its authors"
    )
    bibtex = """@inproceedings{maho2021surfree,
  title = {SurFree: a fast surrogate-free black-box attack},
  author = {Maho, Thibault and Furon, Teddy and Le Merrer, Erwan},
  booktitle = {CVPR}, year = {2021}, eprint = {2011.12807}
}"""

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
            if tries >= FIRST_TRIES and gain > 0:
                level = min(level, gain / 2)
        yield from nearer(case, case.x, gain, level, queries=case.left, steps=case.left)


def nearer(
    case: Case, origin: Tensor, gain: float, level: float, *, queries: int, steps: int
) -> Generator[Tensor, Tensor, float]:
    """Bring ``case.answer``, whose ``gain`` is above ``level``, nearer to ``origin``, keeping it so; its gain then.

    ``steps`` directions that lead nearer are enough, ``queries`` are the most.
    """
    spent = 0

    def past(z: Tensor) -> Generator[Tensor, Tensor, bool]:
        nonlocal spent, gain
        spent += 1
        reached = yield from ask(z)
        if reached > level:
            gain, case.answer = reached, z
        return reached > level

    def bisect(at: Curve, within: float, beyond: float, width: Callable[[float, float], float], limit: int) -> Search:
        """Halve the way from ``at(within)``, which is past the boundary, to ``at(beyond)`` until ``width`` ≤ 1."""
        for _ in range(HALVINGS):
            if spent >= limit or width(within, beyond) <= 1:
                break
            middle = (within + beyond) / 2
            if (yield from past(at(middle))):
                within = middle
            else:
                beyond = middle

    def line() -> Search:
        offset = case.answer - origin
        half_levels = 2 * 255 * float(offset.abs().max())
        yield from bisect(lambda t: origin + t * offset, 1, 0, lambda t, u: (t - u) * half_levels, queries)

    yield from line()
    theta_max, earlier, successes, failures = THETA_MAX, [], 0, 0
    while successes < steps and failures < TRIES and spent < queries - HALVINGS and (case.answer != origin).any():
        at, v = _circle(case, origin, earlier)
        earlier = [*earlier, v][-ORTHOGONAL:]
        if (yield from past(at(theta_max))):
            theta = theta_max
        elif (yield from past(at(-theta_max))):
            theta = -theta_max
        else:
            theta_max, failures = theta_max * RHO, failures + 1
            continue
        theta_max, successes, failures = min(theta_max / RHO, 45.0), successes + 1, 0
        yield from bisect(at, theta, 2 * theta, lambda t, u: (_cos(t) - _cos(u)) / GAMMA, queries - HALVINGS)
    yield from line()
    return gain


def _circle(case: Case, origin: Tensor, earlier: list[Tensor]) -> tuple[Curve, Tensor]:
    """``z(θ)``, θ in degrees, for the present answer and a new ``v``; and that."""
    offset = case.answer - origin
    d = float(offset.norm())
    u = offset / d
    v = _orthogonal(low_frequencies(case), [*earlier, u])

    def at(theta: float) -> Tensor:
        cos, sin = _cos(theta), math.sin(math.radians(theta))
        return case.box(torch.add(origin, u, alpha=d * cos * cos).add_(v, alpha=d * cos * sin))

    return at, v


def _cos(theta: float) -> float:
    return math.cos(math.radians(theta))


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
