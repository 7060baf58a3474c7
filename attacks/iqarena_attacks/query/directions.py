"""Initial directions of the score-boundary attack (arXiv 2401.05217): crops of high-frequency photographs.

A direction is a random 224 crop times ``0.1·r``, ``r ~ U(−1, 1)``, kept where there is something to see: on and beside
Canny edges, and where the saliency exceeds 0.225. Ours: the saliency is the spectral residual; every fourth direction
is sparse noise instead, signs of that strength on a random 5–10 % of those pixels; larger pictures mirror the crop on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from iqarena.api import ImageError, ImageSet
from iqarena.images.perception import edge_mask, grey, saliency_map
from iqarena_attacks.query._frame import Case

CROP, STRENGTH, SALIENT = 224, 0.1, 0.225
MOST = 8  # photographs


class Directions:
    """Random directions ``(3, H, W)`` for one picture."""

    def __init__(self, case: Case, photographs: ImageSet) -> None:
        picture = (case.x * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        seen = edge_mask(picture) | (saliency_map(picture) > SALIENT)
        self._mask = torch.from_numpy(seen if seen.any() else np.ones_like(seen)).to(case.x)
        self._case, self._drawn = case, 0
        self._photographs = high_frequency(photographs, besides=case.draw.images[0])

    def draw(self) -> Tensor:
        self._drawn += 1
        which, top, left, r, share = self._case.uniform(5)
        strength = STRENGTH * (2 * r - 1)
        if self._drawn % 4 == 0:
            kept = self._case.draw.uniform(self._mask[None])[0] < 0.05 + 0.05 * share
            return strength * self._mask * kept * self._case.draw.signs(self._case.x[None])[0]
        photograph = self._photographs[int(which * len(self._photographs))]
        return self._mask * strength * _crop(photograph, top, left, self._case.x.shape[-2:]).to(self._case.x)


def high_frequency(photographs: ImageSet, besides: str) -> list[Tensor]:
    """The ``MOST`` photographs, ``(3, H, W)`` in [0, 1], with the largest mean ``|Laplacian|``.

    Not among them: what is made from the same photograph as the picture ``besides``, where that is of this set.
    """
    own = {item.cluster for item in photographs.items() if item.id == besides}
    others = [picture for cluster, picture in _by_detail(photographs) if cluster not in own][:MOST]
    if not others:
        raise ImageError(f"expected photographs besides the attacked one in {photographs!r}, found none; give more")
    return others


@cache
def _by_detail(photographs: ImageSet) -> list[tuple[str, Tensor]]:
    """The first picture of each of the first ``4 · MOST`` clusters, the most detailed first."""
    first = {item.cluster: item for item in reversed(photographs.items())}
    pictures = [(cluster, photographs.read(item)) for cluster, item in list(first.items())[-4 * MOST :]]
    pictures.sort(key=lambda one: -float(np.abs(cv2.Laplacian(grey(one[1]), cv2.CV_32F)).mean()))
    return [(cluster, torch.from_numpy(picture).permute(2, 0, 1).float() / 255) for cluster, picture in pictures]


def _crop(photograph: Tensor, top: float, left: float, size: Sequence[int]) -> Tensor:
    """A crop, mirrored on to ``size``: ``(3, H, W)``."""
    for axis, place, wanted in ((1, top, size[0]), (2, left, size[1])):
        whole = photograph.shape[axis]
        side = min(CROP, whole)
        photograph = photograph.narrow(axis, int(place * (whole - side + 1)), side)
        if wanted <= side:
            photograph = photograph.narrow(axis, 0, wanted)
        else:
            photograph = photograph.index_select(
                axis, torch.from_numpy(np.pad(np.arange(side), (0, wanted - side), "symmetric"))
            )
    return photograph
