"""The contract of a purification: a defense that changes the picture before it is scored."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api.model import Defended, Defense, Model
from iqarena.errors import SpecError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from iqarena.api.streams import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Purification(Defense):
    """A defense that changes the picture before it is scored."""

    def defend(self, model: Model) -> Defended:
        return _Purified(defense=self, model=model)

    @abstractmethod
    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        """The changed pictures, same shape, in [0, 1]; pictures ``x`` ``(N, 3, H, W)`` are independent.

        With ``differentiable`` it must be made of operations that have a gradient; else any library will do.
        ``streams`` is one random stream per picture, for a :class:`RandomPurification`.
        """


@dataclass(frozen=True, kw_only=True, repr=False)
class RandomPurification(Purification):
    """A purification that draws, from streams that are seeded with the picture's own pixels and ``seed``.

    So the score of a picture is one number, wherever and whenever it is asked for, while whoever changes a pixel meets
    another draw. The gradient of that score says nothing about the next draw: a white-box attack is given the mean of
    the gradients of ``draws`` draws (expectation over transformations: Athalye et al., Synthesizing Robust Adversarial
    Examples, ICML 2018, arXiv 1707.07397). ``draws`` changes no score; several such defenses multiply theirs.
    """

    stochastic = True

    seed: int = 0
    draws: int = 8

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise SpecError(f"{self.name}: expected draws ≥ 1, found {self.draws}")


@dataclass(frozen=True, kw_only=True, repr=False)
class _Purified(Defended):
    """``model`` behind a purification."""

    defense: Purification

    def load(self) -> torch.nn.Module:
        from iqarena.api.purified import Purified

        return Purified(self.defense, self.model.load())
