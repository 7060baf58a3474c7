"""The loop of every query attack: many images, each with a search of its own, scored together.

A search is a generator over one image. It yields candidates and is sent how far each moved the score in the wanted
direction; when it knows a better image it sets ``case.answer``. The loop puts the candidates of all searches into one
evaluation, so that the kernel of an attack reads like the paper and an image's result is the same alone or in a batch.
A search ends by itself, when its queries are spent, or when ``PATIENCE`` queries have not moved the score at all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from iqarena.api import Attack, Source, Streams

PATIENCE = 200

Queries = Annotated[int, Ge(1)]
Search = Generator[Tensor, Tensor, None]  # yields candidates (M, 3, H, W), is sent their gains (M,)


@dataclass
class Case:
    """One image under attack."""

    x: Tensor  # clean, (3, H, W)
    start: Tensor  # where the search begins: x itself, or another attack's image, brought into reach
    reach: Tensor  # (1, H, W): how far a pixel may go, in whole grey levels / 255
    headroom: float  # score points from the clean score to the end of the scale, in the wanted direction
    draw: Streams  # the image's stream
    left: int  # queries that it has left
    answer: Tensor  # the best image so far

    def __post_init__(self) -> None:
        self._low, self._high = (self.x - self.reach).clamp_(0, 1), (self.x + self.reach).clamp_(0, 1)
        self.start = self.box(self.start)

    def box(self, z: Tensor) -> Tensor:
        """``z`` ``(…, 3, H, W)`` brought into reach and into [0, 1]."""
        return z.clamp(self._low, self._high)

    def uniform(self, n: int) -> list[float]:
        """``n`` numbers in [0, 1)."""
        return self.draw.uniform(torch.empty(1, n)).flatten().tolist()


def ask(z: Tensor) -> Generator[Tensor, Tensor, float]:
    """Gain of one candidate ``(3, H, W)``."""
    return float((yield z[None])[0])


def begin(case: Case) -> Generator[Tensor, Tensor, float]:
    """Gain of the start, which becomes the answer; one that does not help is given up for the clean image."""
    gain = 0.0 if torch.equal(case.start, case.x) else (yield from ask(case.start))
    case.answer = case.start if gain > 0 else case.x
    return max(gain, 0.0)


@dataclass(frozen=True, kw_only=True, repr=False)
class Query(Attack):
    """An attack on scores; subclasses write :meth:`search`.

    queries: scores of the target for an image at most, of which the clean one is the first
    """

    access = "score"

    queries: Queries = 8000

    @property
    def stochastic(self) -> bool:
        return True

    @abstractmethod
    def search(self, case: Case) -> Search:
        """The paper's mathematics for one image."""

    def reach(self, x: Tensor) -> Tensor:
        """How far each pixel of ``x`` ``(N, 3, H, W)`` may go, ``(N, 1, H, W)``; whole grey levels."""
        return x.new_full((len(x), 1, *x.shape[-2:]), int(255 * self.eps + 1e-6) / 255)

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return self.perturb_from(x, x, source, streams)

    def perturb_from(self, start: Tensor, x: Tensor, source: Source, streams: Streams) -> Tensor:
        """As :meth:`perturb`, with the searches beginning at ``start``, which is brought into reach first."""
        target, s = source.target, source.sign.flatten().cpu().double()
        headroom = torch.where(s > 0, 100 - target.clean, target.clean).clamp(min=1e-6).tolist()
        cases = [
            Case(x=clean, start=begun, reach=reach, headroom=room, draw=draw, left=left, answer=clean)
            for clean, begun, reach, room, draw, left in zip(
                x, start, self.reach(x), headroom, streams.each(), target.left.tolist(), strict=True
            )
        ]
        searches, candidates = {}, {}
        for i, case in enumerate(cases):
            searches[i] = self.search(case)
            candidates[i] = next(searches[i], None) if case.reach.any() else None
        still = dict.fromkeys(searches, 0)  # queries that have not moved the score, from the first on
        while candidates := {i: z for i, z in candidates.items() if z is not None and len(z) <= cases[i].left}:
            for i in candidates:
                target.answer(i, cases[i].answer)
            whose = [i for i, z in candidates.items() for _ in z]
            gains = s[whose] * (target.score(torch.cat(list(candidates.values())), whose) - target.clean[whose])
            for i, gain in zip(candidates, gains.split([len(z) for z in candidates.values()]), strict=True):
                cases[i].left -= len(gain)
                still[i] = len(gain) + still[i] if still[i] >= 0 and not gain.any() else -1
                candidates[i] = _send(searches[i], gain) if still[i] < PATIENCE else None
        return torch.stack([(case.answer * 255).round() / 255 for case in cases])


def _send(search: Search, gain: Tensor) -> Tensor | None:
    try:
        return search.send(gain)
    except StopIteration:
        return None
