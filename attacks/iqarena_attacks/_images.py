"""The embedded images, for attacks that look at others than the one under attack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from iqarena.api import Source
from iqarena.images.sets.pocket import PocketImages
from iqarena.images.tensors import to_pixels

ALIKE = 0.9  # correlation of two thumbnails above which they are of one reference image


@cache
def embedded() -> Tensor:
    """Image set ``pocket``, uint8 ``(52, 3, 288, 384)``; do not write into it."""
    return to_pixels([PocketImages().read(item) for item in PocketImages().items()])


@cache
def references() -> Tensor:
    """The reference images of the same, undegraded, uint8 ``(52, 3, 288, 384)``; do not write into it."""
    return to_pixels([PocketImages().read_reference(item) for item in PocketImages().items()])


def others(x: Tensor, ids: Sequence[str]) -> list[tuple[int, ...]]:
    """For each image of ``x`` ``(N, 3, H, W)`` the places in :func:`references` of those that it does not come from.

    It comes from one if it has the id of that embedded image, which a crop keeps, or if their thumbnails, 16×12 grey
    values, correlate by more than ``ALIKE``, as those of a whole image do under any name.
    """
    embedded_ids = [item.id for item in PocketImages().items()]
    alike = (_thumbnails(x) @ _known().T > ALIKE).tolist()
    return [
        tuple(i for i, same in enumerate(row) if not same and embedded_ids[i] != id)
        for row, id in zip(alike, ids, strict=True)
    ]


def ranges(source: Source) -> Tensor:
    """Highest minus lowest score ``(K,)`` that each member gives the embedded images."""

    def extent(member: Source) -> float:
        scores = torch.cat([member.score(images.float() / 255) for images in embedded().split(16)])
        return float(scores.max() - scores.min())

    return torch.tensor([member.once("range of embedded images", extent) for member in source.alone()])


@cache
def _known() -> Tensor:
    return torch.cat([_thumbnails(image.float() / 255) for image in references().split(1)])


def _thumbnails(x: Tensor) -> Tensor:
    """Grey 16×12 thumbnails ``(N, 192)`` of mean 0 and norm 1; flat ones are 0."""
    small = adaptive_avg_pool2d(x.cpu().double().mean(1, keepdim=True), (12, 16)).flatten(1)
    small = small - small.mean(1, keepdim=True)
    return small / small.norm(dim=1, keepdim=True).clamp(min=1e-9)
