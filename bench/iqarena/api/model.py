"""The contract of a scorer, and of a defense in front of one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from iqarena.api.plugin import Plugin
from iqarena.files.weights import WeightFile

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, repr=False)
class Model(Plugin):
    """A scorer: ``load`` gives a module mapping images ``(N, 3, H, W)`` in [0, 1] to ``(N,)`` on 0–100.

    ``min_size`` is the shortest side in pixels that it accepts. ``straight_through``: the gradient stands in for one
    that the score does not have, because it rounds or looks something up. ``channels_last``: whether the module may be
    put into that memory layout, which is faster.
    """

    differentiable: ClassVar[bool] = True
    straight_through: ClassVar[bool] = False
    channels_last: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    min_size: ClassVar[int] = 1

    @property
    def facts(self) -> dict[str, Any]:
        """Training set, licence, backbone, correlations …: shown by ``describe`` and kept in manifests."""
        return {}

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the pretrained networks that it contains: scorers that share one are relatives, not strangers, and
        so are those of one plugin unless both name theirs."""
        return ()

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Files that ``iqarena fetch models`` brings and :func:`iqarena.api.obtain` finds; none when shipped."""
        return ()

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file, part of every result's identity; empty when there are none."""
        return ""

    @property
    def defenses(self) -> tuple[Defense, ...]:
        """The defenses in front of it, the one that meets the image first; none for most."""
        return ()

    @property
    def undefended(self) -> Model:
        """The same scorer without its defenses."""
        return self

    @abstractmethod
    def load(self) -> torch.nn.Module:
        """Build the module on the CPU with checked weights; the harness freezes and moves it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Defense(Plugin):
    """A scorer → a harder one, which is a scorer like any: written ``defense|scorer``, ``first|second|scorer``.

    ``differentiable``: whether its gradient is that of what it does; if not, a white-box attack is given a straight-
    through one. ``stochastic``: whether it draws random numbers; a white-box attack is then given an average gradient.
    """

    differentiable: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    @abstractmethod
    def defend(self, model: Model) -> Defended:
        """``model`` behind this defense; raises :class:`SpecError` for a model that it does not apply to."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Defended(Model):
    """``model`` behind ``defense``: what :meth:`Defense.defend` returns; a subclass says how to ``load`` it.

    Facts, files, weights and needs are those of ``model``; a defense that changes weights overrides ``weights_sha256``
    and adds what it knows to ``facts`` (``training_seconds``, where it was trained, is shown as its cost).
    """

    defense: Defense
    model: Model

    def __repr__(self) -> str:
        return f"{self.defense!r}|{self.model!r}"

    @property
    def label(self) -> str:
        return f"{self.defense.label}|{self.model.label}"

    @property
    def defenses(self) -> tuple[Defense, ...]:
        return (self.defense, *self.model.defenses)

    @property
    def undefended(self) -> Model:
        return self.model.undefended

    @property
    def differentiable(self) -> bool:
        return self.model.differentiable

    @property
    def straight_through(self) -> bool:
        return self.model.straight_through or not self.defense.differentiable or self.defense.stochastic

    @property
    def channels_last(self) -> bool:
        return self.model.channels_last

    @property
    def stochastic(self) -> bool:
        return self.model.stochastic

    @property
    def min_size(self) -> int:
        return self.model.min_size

    @property
    def facts(self) -> dict[str, Any]:
        return self.model.facts

    @property
    def backbones(self) -> tuple[str, ...]:
        return self.model.backbones

    @property
    def files(self) -> tuple[WeightFile, ...]:
        return self.model.files

    @property
    def weights_sha256(self) -> str:
        return self.model.weights_sha256
