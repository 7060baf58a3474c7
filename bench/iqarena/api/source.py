"""What an attack sees of the models it goes by.

The engine differentiates ``s · f``: the mean score of the source's scorers times ``sign``, +1 for an image whose score
is to be raised and −1 for one whose score is to be lowered. So an attack always ascends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api.streams import Streams

T = TypeVar("T")


class Member(Protocol):
    """One scorer of a source, for an :class:`Estimate`; what it evaluates is counted."""

    @property
    def spec(self) -> str:
        """The scorer's spec, with all its parameters."""
        ...

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(M,)`` and their gradients ``(M, 3, H, W)``, at any number of images."""
        ...


class Estimate(Protocol):
    """How score and gradient of a scorer are estimated around images ``x``: a value (frozen, hashable).

    At the clean images an estimate is worked out once for each scorer, and shared by all attacks that ask for an equal
    one, from whatever sources; each of them is charged for it.
    """

    def __call__(self, members: Sequence[Member], x: Tensor, streams: Streams) -> list[tuple[Tensor, Tensor]]:
        """Score ``(N,)`` and gradient ``(N, 3, H, W)`` of each member; may draw from ``streams.shared(…)`` only."""
        ...


@dataclass(frozen=True)
class Exact:
    """The score and the gradient at ``x`` itself."""

    def __call__(self, members: Sequence[Member], x: Tensor, streams: Streams) -> list[tuple[Tensor, Tensor]]:
        return [member.value_and_gradient(x) for member in members]


EXACT = Exact()


class Oracle(Protocol):
    """The target as a query attack sees it: scores ``f`` of 8-bit images inside the budget, counted per image."""

    @property
    def clean(self) -> Tensor:
        """Scores of the clean images, ``(N,)`` float64: the first query."""
        ...

    @property
    def left(self) -> Tensor:
        """Queries that each image has left, ``(N,)``."""
        ...

    def score(self, x: Tensor, whose: Sequence[int]) -> Tensor:
        """Scores ``(M,)`` float64 of candidates ``(M, 3, H, W)``; ``whose[j]`` is the image that candidate j is for."""
        ...

    def answer(self, i: int, x: Tensor) -> None:
        """From now on the attack would hand in ``x`` ``(3, H, W)`` for image ``i``; costs nothing."""
        ...


class Source(Protocol):
    """The mean of K scorers, for a batch of N clean images; what is asked of it is counted per image."""

    @property
    def sign(self) -> Tensor:
        """``s``: +1 (raise the score) or −1 (lower it) for each image, ``(N, 1, 1, 1)``."""
        ...

    @property
    def target(self) -> Oracle:
        """The target, for an attack on scores."""
        ...

    def score(self, x: Tensor) -> Tensor:
        """``f``, ``(M,)`` on 0–100, at any number of images."""
        ...

    def gradient(self, x: Tensor, by: Estimate = EXACT) -> Tensor:
        """``∇ s·f`` at one point ``x`` for each image, ``(N, 3, H, W)``."""
        ...

    def value_and_gradient(self, x: Tensor, by: Estimate = EXACT) -> tuple[Tensor, Tensor]:
        """``s·f`` ``(N,)`` and its gradient, for the price of the gradient."""
        ...

    def members(self, x: Tensor, by: Estimate = EXACT) -> tuple[Tensor, Tensor]:
        """``s·f_k`` ``(K, N)`` and the gradients ``(K, N, 3, H, W)`` of the K scorers one by one."""
        ...

    def alone(self) -> Sequence[Source]:
        """The K scorers as sources of their own."""
        ...

    def of(self, images: Sequence[int] | Tensor) -> Source:
        """The source for these of the images only."""
        ...

    def once(self, key: Hashable, make: Callable[[Source], T]) -> T:
        """``make(source)``, worked out once a run for equal scorers and ``key``, which names all it depends on.

        Every image is charged with its gradients, as if they were for it alone; scores are free.
        """
        ...
