"""The target as a query attack sees it: scores, counted image by image, and no more of them than agreed.

A query is what a service would be sent: an image of 8 bits a channel inside the attack's budget. So every candidate is
projected and rounded before it is scored, and the score that an attack saw is that of an image it could hand in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from iqarena.api import CHECKPOINTS, AttackError
from iqarena.engine.budget import round8
from iqarena.engine.scorer import Scorer


class ScoreOracle:
    """Scores of candidates for some uint8 ``images`` ``(N, 3, H, W)``.

    ``clean`` ``(N,)`` float64 are their scores. These decided the direction of the attack and are its first query.
    ``queries`` ``(N,)`` counts; ``eps`` and ``budget`` are what the attack declares.
    """

    def __init__(self, scorer: Scorer, images: Tensor, clean: Tensor, *, eps: float, budget: int) -> None:
        self.clean = clean
        self.queries = torch.ones(len(images), dtype=torch.long)
        self._moved = torch.zeros(len(images), dtype=torch.long)
        self._scorer, self._images, self._eps, self._budget = scorer, images, eps, budget
        headroom = int(eps * 255 + 1e-6)
        self._low, self._high = ((images.short() + step).clamp(0, 255).float() for step in (-headroom, headroom))
        self._answers = list(images)
        self._kept: dict[int, dict[int, Tensor]] = {at: {} for at in CHECKPOINTS if at <= budget}

    @property
    def left(self) -> Tensor:
        """Queries that each image has left, ``(N,)``."""
        return self._budget - self.queries

    @property
    def no_response(self) -> Tensor:
        """Share of the queries that left the score exactly where it was, ``(N,)``; NaN before the first."""
        used = self.queries - 1
        return torch.where(used > 0, 1 - self._moved / used, torch.nan)

    def score(self, x: Tensor, whose: Sequence[int]) -> Tensor:
        """Scores ``(M,)`` float64 of ``x`` ``(M, 3, H, W)``; ``whose[j]`` is the image that candidate j is for.

        Raises :class:`AttackError`, having asked nothing, when that is more than an image's budget.
        """
        if len(x) != len(whose):
            raise AttackError(f"expected an image's number for each of {len(x)} candidates, found {len(whose)}")
        queries = torch.bincount(torch.tensor(whose), minlength=len(self.queries))
        if bool((queries > self.left).any()):
            most = int((self.queries + queries).max())
            raise AttackError(f"expected at most {self._budget} queries of an image, asked for the {most}th")
        self._keep(queries)
        self.queries += queries
        low, high = ((b if len(b) == 1 else b[list(whose)]) for b in (self._low, self._high))
        rounded = (x * 255).round_().clamp_(low, high)  # as round8 does, in floats
        scores = self._scorer.score(rounded.div_(255)).cpu()
        moved = torch.tensor(whose)[scores != self.clean[list(whose)]]
        self._moved += torch.bincount(moved, minlength=len(self.queries))
        return scores

    def answer(self, i: int, x: Tensor) -> None:
        """From now on the attack would hand in ``x`` ``(3, H, W)`` for image ``i``; costs nothing."""
        self._answers[i] = x

    def kept(self, final: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The checkpoints inside the budget, each with what the attack would have handed in by then, uint8.

        For an image that stopped querying before a checkpoint, its ``final`` image is used.
        """
        for at, answers in self._kept.items():
            yield at, torch.stack([answers.get(i, image) for i, image in enumerate(final)])

    def _keep(self, queries: Tensor) -> None:
        """The answers of those images that the next queries carry past a checkpoint."""
        for at, kept in self._kept.items():
            for i in ((self.queries <= at) & (at < self.queries + queries)).nonzero()[:, 0].tolist():
                answer = self._answers[i]
                rounded = round8(self._images[i], answer, self._eps) if answer.is_floating_point() else answer
                kept[i] = rounded
