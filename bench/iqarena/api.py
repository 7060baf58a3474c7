"""The contracts: everything a plugin author needs, and the only part of the harness a plugin may import.

Images are float32 tensors ``(N, 3, H, W)`` in ``[0, 1]``; scores are ``(N,)`` on 0–100, higher = better;
budgets are in ``[0, 1]`` units, written ``8/255``. Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from iqarena.errors import AttackError, ImageError, IqarenaError, SpecError, WeightsError
from iqarena.spec import format_number
from iqarena.weights import WeightFile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from iqarena.seeding import Streams
    from iqarena.source import Source

__all__ = [
    "Attack", "AttackError", "CHECKPOINTS", "Defended", "Defense", "Filter", "FilterChain", "ImageError", "ImageItem",
    "ImageSet", "IqarenaError", "Model", "Plugin", "Purification", "RandomPurification", "SpecError", "WeightFile",
    "WeightsError",
]  # fmt: skip

CHECKPOINTS = (20, 50, 100, 200, 500, 1000, 2000, 4000, 8000)  # queries after which an answer is kept


@dataclass(frozen=True, kw_only=True, repr=False)
class Plugin(ABC):  # noqa: B024 (its kinds have abstract methods)
    """A named, versioned, immutable set of parameters; ``repr`` is its canonical spec string.

    ``version`` must be raised when the same spec starts to give other numbers.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    bibtex: ClassVar[str] = ""
    reconstructed: ClassVar[str] = ""  # what is our reconstruction rather than the paper's, in one sentence

    def __repr__(self) -> str:
        return self._spec(dataclasses.fields(self))

    @property
    def label(self) -> str:
        """The spec with default values left out: what columns, plots and file names show."""
        return self._spec([f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default])

    def _spec(self, fields: Sequence[dataclasses.Field[Any]]) -> str:
        if not fields:
            return self.name
        return f"{self.name}({', '.join(f'{f.name}={_text(getattr(self, f.name))}' for f in fields)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Attack(Plugin):
    """Clean images and a direction → perturbed images inside ``eps``; the frame does everything else.

    ``access`` is what :meth:`perturb` may ask of its model: ``"gradient"`` of the source, ``"score"`` of the
    target, both (``"gradient+score"``: a transfer attack's picture from which queries go on), or ``"none"``.
    """

    access: ClassVar[Literal["gradient", "score", "gradient+score", "none"]] = "gradient"
    published: ClassVar[str] = ""  # a number of its paper, shown beside ours and labelled as the paper's

    eps: float = 8 / 255

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise SpecError(f"{self.name}: expected eps in [0, 1] (write 8/255), found {format_number(self.eps)}")

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on the random streams."""
        return False

    @property
    def cost(self) -> int:
        """Gradient evaluations per image and source model; conformance proves it."""
        return 1

    @property
    def min_members(self) -> int:
        """The fewest scorers that its source must have."""
        return 1

    @property
    def queries(self) -> int:
        """Scores of the target per image, its clean one included, at most; the harness gives no more."""
        return 0

    @property
    def shared_gradient(self) -> tuple[Any, ...] | None:
        """Arguments of ``Source.smoothed_gradient`` (``sigma, samples, …``) when that is all the attack asks for, so
        that attacks share it."""
        return None

    @abstractmethod
    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        """The kernel: only the paper's mathematics.

        ``x`` clean images ``(N, 3, H, W)``; ``direction`` ``(N, 1, 1, 1)`` of +1 (raise) or −1 (lower);
        ``model`` the counted view of the source (or target); ``streams`` one random stream per image.
        Returns ``x + δ`` of the same shape; it need not be clipped to ``[0, 1]`` or rounded.
        """


@dataclass(frozen=True, kw_only=True, repr=False)
class Filter(Plugin):
    """A mask on a gradient or a perturbation ``t`` ``(N, 3, H, W)``, given the clean images ``x``."""

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on the random streams."""
        return False

    @abstractmethod
    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        """Return the filtered ``t``, same shape; images are independent."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FilterChain(Filter):
    """Filters applied left to right, written ``jnd(threshold=6)|fourier_topk(keep=0.5)``."""

    filters: tuple[Filter, ...] = ()

    def __repr__(self) -> str:
        return "|".join(map(repr, self.filters))

    @property
    def label(self) -> str:
        return "|".join(one.label for one in self.filters)

    @property
    def stochastic(self) -> bool:
        return any(one.stochastic for one in self.filters)

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        for one in self.filters:
            t = one(t, x, streams)
        return t


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
    def files(self) -> tuple[WeightFile, ...]:
        """Files that ``iqarena fetch models`` brings and :func:`iqarena.weights.obtain` finds; none when shipped."""
        return ()

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file, part of every result's identity; empty when there are none."""
        return ""

    @property
    def defenses(self) -> tuple[Defense, ...]:
        """The defenses in front of it, the one that meets the picture first; none for most."""
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
    def files(self) -> tuple[WeightFile, ...]:
        return self.model.files

    @property
    def weights_sha256(self) -> str:
        return self.model.weights_sha256


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
        from iqarena.purified import Purified

        return Purified(self.defense, self.model.load())


@dataclass(frozen=True)
class ImageItem:
    """One picture of an image set: decoded only when :meth:`ImageSet.read` is called."""

    id: str
    cluster: str  # pictures of one reference photograph share it; statistics resample clusters
    mos: float | None = None  # mean opinion score on the set's own scale, higher = better


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageSet(Plugin):
    """Pictures with ids and, where the set has them, opinion scores."""

    @abstractmethod
    def items(self) -> list[ImageItem]:
        """All pictures in a fixed order; raises :class:`ImageError` when the set is missing or damaged."""

    @abstractmethod
    def read(self, item: ImageItem) -> np.ndarray:
        """Decode one picture to uint8 RGB ``(H, W, 3)``; raises :class:`ImageError` for a broken one."""


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return format_number(value)
    return repr(value) if isinstance(value, Plugin) else str(value)
