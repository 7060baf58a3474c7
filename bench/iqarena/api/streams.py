"""Per-image random streams: a result depends on the image and the seed, never on its neighbours.

Numbers are drawn on the CPU and then moved, so every device sees the same ones.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Streams:
    """One random generator per image, seeded from ``hash(image, purpose, seed, repeat)``.

    ``images`` are their ids, ``purpose`` what the numbers are for. An attack's purpose is its label, so that neither a
    new parameter with a default nor a new version draws anew.
    """

    def __init__(self, images: Sequence[str], purpose: str, seed: int = 0, repeat: int = 0) -> None:
        self._identity = (tuple(images), seed, repeat)
        self._generators = [_generator(image, purpose, seed, repeat) for image in images]

    def shared(self, purpose: str) -> Streams:
        """Fresh streams that depend on ``purpose`` but not on the attack, so that variants meet the same noise."""
        images, seed, repeat = self._identity
        return Streams(images, purpose, seed, repeat)

    @property
    def images(self) -> tuple[str, ...]:
        """The images' ids."""
        return self._identity[0]

    def each(self) -> list[Streams]:
        """The streams one by one; what one draws moves no other."""
        ones = []
        for image, generator in zip(self.images, self._generators, strict=True):
            one = copy.copy(self)
            one._identity, one._generators = ((image,), *self._identity[1:]), [generator]
            ones.append(one)
        return ones

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape, type and device of ``like`` ``(N, …)``.

        Raises ``ValueError`` for another N than that of the images.
        """
        return self._draw(like, lambda shape, g: torch.randn(shape, generator=g))

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), as :meth:`normal`."""
        return self._draw(like, lambda shape, g: torch.rand(shape, generator=g))

    def signs(self, like: Tensor) -> Tensor:
        """Independent +1 and −1, as :meth:`normal`."""
        return self._draw(like, lambda shape, g: torch.randint(0, 2, shape, generator=g, dtype=torch.int8) * 2 - 1)

    def _draw(self, like: Tensor, draw) -> Tensor:
        if len(like) != len(self._generators):
            raise ValueError(f"expected a batch of {len(self._generators)} images, found {len(like)}")
        return torch.stack([draw(like.shape[1:], g) for g in self._generators]).to(like)


def _generator(*identity: object) -> torch.Generator:
    digest = hashlib.sha256("\0".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
