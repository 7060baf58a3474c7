"""The contract of an image set."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api.plugin import Plugin
from iqarena.errors import ImageError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ImageItem:
    """One image of an image set: decoded only when :meth:`ImageSet.read` is called."""

    id: str
    cluster: str  # images of one reference image share it; statistics resample clusters
    mos: float | None = None  # mean opinion score on the set's own scale, higher = better

    def __post_init__(self) -> None:
        """Raises :class:`ImageError` for a name that rows could not hold, such as a file's that is not UTF-8."""
        for what, text in (("id", self.id), ("cluster", self.cluster)):
            if not isinstance(text, str) or not text or text.encode(errors="replace") != text.encode(errors="ignore"):
                raise ImageError(f"image {self.id!r}: expected UTF-8 text as its {what}, found {text!r}; rename it")


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageSet(Plugin):
    """Images with ids and, where the set has them, opinion scores."""

    @abstractmethod
    def items(self) -> list[ImageItem]:
        """All images in a fixed order; raises :class:`ImageError` when the set is missing or damaged."""

    def stamp(self, item: ImageItem) -> str:
        """A text that is another one whenever the file of ``item`` has been touched, found without reading the file;
        empty where that cannot be told, and the image is then read whenever a run is started again."""
        return ""

    @abstractmethod
    def read(self, item: ImageItem) -> np.ndarray:
        """Decode one image to uint8 RGB ``(H, W, 3)``; raises :class:`ImageError` for a broken one."""

    def read_reference(self, item: ImageItem) -> np.ndarray:
        """The whole undistorted image that ``item`` comes from, uint8 RGB ``(H, W, 3)``, where the set can give it; by
        default the image itself, distorted or not."""
        return self.read(item)
