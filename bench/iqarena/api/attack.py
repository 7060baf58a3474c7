"""The contract of an attack."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Interval, Unit

from iqarena.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api.source import Estimate, Source
    from iqarena.api.streams import Streams

Access: TypeAlias = Literal["gradient", "score", "gradient+score", "none"]
Policy: TypeAlias = Literal["mid", "raise", "lower"]  # which way a run pushes scores

CHECKPOINTS = (20, 50, 100, 200, 500, 1000, 2000, 4000, 8000)  # queries after which an answer is kept


@dataclass(frozen=True, kw_only=True, repr=False)
class Attack(Plugin):
    """Clean images → perturbed images inside the budget ``eps``; the frame does everything else.

    ``access`` is what :meth:`perturb` may ask of its source: ``"gradient"``, ``"score"`` of the target, both
    (``"gradient+score"``: a transfer attack's image from which queries go on), or ``"none"``. ``floor``: a control
    that knows nothing of any scorer, in every table for comparison. ``reference``: the others of a suite that names no
    reference attack are compared with it. ``trains_on``: height and width of images of its own, where its gradients are
    of those and not of the image under attack, which a forecast has to know.

    eps:  how far a pixel may go, in [0, 1] units
    """

    access: ClassVar[Access] = "gradient"
    floor: ClassVar[bool] = False
    reference: ClassVar[bool] = False
    trains_on: ClassVar[tuple[int, int] | None] = None
    published: ClassVar[str] = ""  # a number of its paper, shown beside ours and labelled as the paper's

    eps: Annotated[float, Interval(ge=0, le=1), Unit("(write 8/255)")] = 8 / 255

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on the random streams."""
        return False

    @property
    def cost(self) -> int:
        """Gradient evaluations per image and source model; conformance proves it."""
        return 1 if "gradient" in self.access else 0

    @property
    def min_members(self) -> int:
        """The fewest scorers that its source must have."""
        return 1

    @property
    def queries(self) -> int:
        """Scores of the target per image, its clean one included, at most; the harness gives no more."""
        return 0

    @property
    def shared_gradient(self) -> Estimate | None:
        """The estimate at the clean images, when that is all the attack asks for, so that attacks share it."""
        return None

    @abstractmethod
    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        """The kernel: only the paper's mathematics. It ascends: the sign of the objective is the source's.

        ``x`` clean images ``(N, 3, H, W)``; ``source`` the counted view of the scorers it goes by; ``streams`` one
        random stream per image. Returns ``x + δ`` of the same shape; it need not be clipped to ``[0, 1]`` or rounded.
        """
