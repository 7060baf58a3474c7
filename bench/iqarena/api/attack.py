"""The contract of an attack."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from iqarena.api.plugin import Plugin
from iqarena.api.spec import format_number
from iqarena.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api.source import Source
    from iqarena.api.streams import Streams

CHECKPOINTS = (20, 50, 100, 200, 500, 1000, 2000, 4000, 8000)  # queries after which an answer is kept


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
