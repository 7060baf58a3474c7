"""The contract of an image set."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ImageItem:
    """One image of an image set: decoded only when :meth:`ImageSet.read` is called."""

    id: str
    cluster: str  # images of one reference image share it; statistics resample clusters
    mos: float | None = None  # mean opinion score on the set's own scale, higher = better


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageSet(Plugin):
    """Images with ids and, where the set has them, opinion scores."""

    @abstractmethod
    def items(self) -> list[ImageItem]:
        """All images in a fixed order; raises :class:`ImageError` when the set is missing or damaged."""

    @abstractmethod
    def read(self, item: ImageItem) -> np.ndarray:
        """Decode one image to uint8 RGB ``(H, W, 3)``; raises :class:`ImageError` for a broken one."""
