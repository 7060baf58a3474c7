"""The contract of a purification: a defense that changes the image before it is scored."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

from annotated_types import Ge

from iqarena.api.model import Defended, Defense, Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from iqarena.api.purified import Purified
    from iqarena.api.streams import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Purification(Defense):
    """A defense that changes the image before it is scored."""

    def defend(self, model: Model) -> Defended:
        return _Purified(defense=self, model=model)

    def before(self, scorer: torch.nn.Module) -> Purified:
        """The scorer ``(N, 3, H, W) → (N,)`` of purified images."""
        from iqarena.api.purified import Purified

        return Purified(self, scorer)

    @abstractmethod
    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        """The changed images, same shape, in [0, 1]; images ``x`` ``(N, 3, H, W)`` are independent.

        With ``differentiable`` it must be made of operations that have a gradient; else any library will do.
        ``streams`` is one random stream per image, for a :class:`RandomPurification`.
        """


@dataclass(frozen=True, kw_only=True, repr=False)
class RandomPurification(Purification):
    """A purification with random draws, seeded with the image's pixels and ``seed``.

    The same image always gets the same score, and changing any pixel gives a new draw. The gradient of that score says
    nothing about the next draw: a white-box attack is given the mean of the gradients of ``draws`` draws (expectation
    over transformations: Athalye et al., Synthesizing Robust Adversarial Examples, ICML 2018, arXiv 1707.07397).
    Several such defenses multiply their draws.

    seed: of the draws
    draws: of which a white-box attack is given the mean gradient; changes no score
    """

    stochastic = True

    seed: int = 0
    draws: Annotated[int, Ge(1)] = 8

    def before(self, scorer: torch.nn.Module) -> Purified:
        from iqarena.api.purified import RandomPurified

        return RandomPurified(self, scorer)


@dataclass(frozen=True, kw_only=True, repr=False)
class _Purified(Defended):
    """``model`` behind a purification."""

    defense: Purification

    def load(self) -> torch.nn.Module:
        return self.defense.before(self.model.load())


@runtime_checkable
class Certified(Protocol):
    """What ``load`` of a defended scorer gives, if it knows within which bounds its scores stay."""

    def certificate(self, x: Tensor) -> Tensor:
        """Lower and upper bound ``(N, 2)`` of the score on all images within the radius that the defense declares of
        each of ``x`` ``(N, 3, H, W)``; infinite where there is none."""
        ...
