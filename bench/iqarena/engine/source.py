"""The only model an attack is given: a counted, access-checked view of one scorer or an ensemble of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from iqarena.api import EXACT, AttackError, Estimate
from iqarena.api.attack import Access
from iqarena.api.streams import Streams
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer

T = TypeVar("T")


class Source:
    """The mean of ``scorers`` for a batch of clean ``images``, to be raised or lowered as ``sign`` ``(N,)`` says.

    :class:`iqarena.api.Source` describes what an attack may ask. ``forwards`` and ``backwards`` count it: one of each
    per member and gradient. What ``memo`` already holds for these clean images is not evaluated again but is counted,
    so that an attack's cost is the same alone and among others. A query attack has a ``target`` beside, or instead of,
    the source; its counts are there.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        images: Tensor,
        streams: Streams,
        *,
        sign: Tensor | None = None,
        access: Access = "gradient",
        memo: dict[Any, Any] | None = None,
        target: ScoreOracle | None = None,
    ) -> None:
        self.sign = (images.new_ones(len(images)) if sign is None else sign.to(images)).view(-1, 1, 1, 1)
        self._scorers = tuple(scorers)
        self._images = images
        self._streams = streams
        self._access: Access = access
        self._memo: dict[Any, Any] = {} if memo is None else memo
        self._target = target
        self._counts = _Counts(len(images))
        self._places = torch.arange(len(images))  # of the images among those that are counted

    @property
    def forwards(self) -> int:
        """Forward passes per image, of all members together."""
        return -(-self._counts.forwards // self._counts.images)

    @property
    def backwards(self) -> int:
        """Backward passes per image, of all members together."""
        return -(-self._counts.backwards // self._counts.images)

    @property
    def zero_gradient(self) -> Tensor | None:
        """Share of exactly zero entries in the first gradient of each image, ``(N,)``; None before the first."""
        return self._counts.zero_gradient

    @property
    def target(self) -> ScoreOracle:
        if self._target is None or "score" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for the target")
        return self._target

    def touched(self) -> str:
        """Which of the scorers that an attack can reach have other weights than were loaded; empty when none has."""
        reachable = [*self._scorers, *([self._target._scorer] if self._target else [])]
        return ", ".join(repr(scorer.model) for scorer in reachable if not scorer.intact())

    def score(self, x: Tensor) -> Tensor:
        self._check_access("a score of the source")
        self._counts.forwards += len(self._scorers) * len(x)
        return torch.stack([scorer.score(x) for scorer in self._scorers]).mean(0)

    def gradient(self, x: Tensor, by: Estimate = EXACT) -> Tensor:
        return self.value_and_gradient(x, by)[1]

    def value_and_gradient(self, x: Tensor, by: Estimate = EXACT) -> tuple[Tensor, Tensor]:
        values, gradients = self.members(x, by)
        return values.mean(0), _mean(gradients)

    def members(self, x: Tensor, by: Estimate = EXACT) -> tuple[Tensor, Tensor]:
        self._check_access("a gradient")
        if len(x) != len(self.sign):
            raise AttackError(f"expected a point for each of {len(self.sign)} images, found {len(x)}; see Source.of")
        memo = self._memo if x is self._images else {}
        missing = [_Member(scorer) for scorer in self._scorers if (scorer.model, by) not in memo]
        for member, estimate in zip(missing, by(missing, x, self._streams), strict=True):
            memo[member.scorer.model, by] = (*estimate, member.evaluated)
        values, gradients, evaluated = zip(*(memo[scorer.model, by] for scorer in self._scorers), strict=True)
        self._counts.forwards += sum(evaluated)
        self._counts.backwards += sum(evaluated)
        # stacked, hence new: what the memo holds is not given away
        gradients = torch.stack(gradients).mul_(self.sign).to(x.device)
        self._counts.note(self._places, lambda: (_mean(gradients) == 0).double().mean((1, 2, 3)).cpu())
        return torch.stack(values) * self.sign.view(-1).to(values[0]), gradients

    def alone(self) -> list[Source]:
        return [self._with(_scorers=(scorer,)) for scorer in self._scorers]

    def of(self, images: Sequence[int] | Tensor) -> Source:
        places = torch.as_tensor(images, device="cpu")
        parts = {"sign": self.sign[places], "_images": self._images[places], "_places": self._places[places]}
        return self._with(**parts)

    def once(self, key: Hashable, make: Callable[[Source], T]) -> T:
        self._check_access("a gradient")

        def work() -> tuple[T, _Counts]:
            view = self._with(_counts=_Counts(len(self.sign)), _places=torch.arange(len(self.sign)))
            return make(view), view._counts

        models = tuple(scorer.model for scorer in self._scorers)
        result, counts = self._scorers[0].once((key, models), work)
        self._counts.forwards += counts.backwards * len(self.sign)
        self._counts.backwards += counts.backwards * len(self.sign)
        if (zero := counts.zero_gradient) is not None:
            self._counts.note(self._places, lambda: zero)
        return result

    def _with(self, **changes: Any) -> Source:
        """The same view but for these changes; it shares the counts, unless they are among them."""
        view = copy.copy(self)
        view.__dict__.update(changes)
        return view

    def _check_access(self, what: str) -> None:
        if "gradient" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for {what}")


class _Member:
    """One scorer, for an estimate: its spec, its gradients, and how many it evaluated."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.spec, self.evaluated = scorer, repr(scorer.model), 0

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluated += len(x)
        return self.scorer.value_and_gradient(x)


@dataclass
class _Counts:
    """What was asked for, over all images together."""

    images: int
    forwards: int = 0
    backwards: int = 0
    zero_gradient: Tensor | None = None

    def note(self, places: Tensor, zero: Callable[[], Tensor]) -> None:
        """Keep the shares of zero entries ``zero()`` for those images that have none yet."""
        if self.zero_gradient is not None and not self.zero_gradient.isnan().any():
            return
        if self.zero_gradient is None:
            self.zero_gradient = torch.full((self.images,), torch.nan, dtype=torch.float64)
        flags = torch.full_like(self.zero_gradient, torch.nan)
        flags[places] = zero()
        self.zero_gradient = self.zero_gradient.where(~self.zero_gradient.isnan(), flags)


def _mean(members: Tensor) -> Tensor:
    """Mean over the first axis, of which one is itself."""
    return members[0] if len(members) == 1 else members.mean(0)
