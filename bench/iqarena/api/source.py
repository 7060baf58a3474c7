"""What an attack sees of the models it goes by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.engine.score_oracle import Target


class Source(Protocol):
    """Score and gradient of the mean of K scorers on a batch of clean images, counted per image."""

    @property
    def target(self) -> Target: ...

    def score(self, x: Tensor) -> Tensor: ...

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor: ...

    def value_and_gradient(self, x: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def members(self, x: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def smoothed_gradient(
        self, sigma: float | Tensor = 0.0, samples: int = 1, antithetic: bool = False, shared_noise: bool = True
    ) -> Tensor: ...

    def smoothed_members(
        self, sigma: float | Tensor = 0.0, samples: int = 1, antithetic: bool = False, shared_noise: bool = True,
        *, at: Tensor | None = None, of: Tensor | None = None, step: int = 0,
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip

    def ranges(self, pictures: Callable[[], Tensor]) -> Tensor: ...

    def per_run(self, make: Callable[[Source, Any], Tensor], keys: Sequence[Hashable]) -> Tensor: ...
