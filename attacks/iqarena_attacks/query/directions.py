"""Initial directions of the score-boundary attack: crops of high-frequency photographs where an eye looks less or more.

A direction is a random crop of a photograph, less its mean, times ``0.1·r``, ``r ~ U(−1, 1)``; every other one is
sparse noise instead: signs of that strength on a random 5–10 % of the pixels. Both are kept only where something is to
be seen: on and beside edges, and where the spectral-residual saliency exceeds 0.225.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from iqarena.api import ImageError, ImageSet
from iqarena.perception import edge_mask, grey, saliency_map
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
        if self._drawn % 2 == 0:
            kept = self._case.draw.uniform(self._mask[None])[0] < 0.05 + 0.05 * share
            return strength * self._mask * kept * self._case.draw.signs(self._case.x[None])[0]
        crop = _crop(self._photographs[int(which * len(self._photographs))], top, left, self._case.x.shape[-2:])
        return strength * self._mask * torch.from_numpy(crop).to(self._case.x)


def high_frequency(photographs: ImageSet, besides: str) -> list[np.ndarray]:
    """The ``MOST`` photographs, float32 RGB in [0, 1], with the largest mean ``|Laplacian|``.

    Not among them: what is made from the same photograph as the picture ``besides``, where that is of this set.
    """
    own = {item.cluster for item in photographs.items() if item.id == besides}
    others = [picture for cluster, picture in _by_detail(photographs) if cluster not in own][:MOST]
    if not others:
        raise ImageError(f"expected photographs besides the attacked one in {photographs!r}, found none; give more")
    return others


@cache
def _by_detail(photographs: ImageSet) -> list[tuple[str, np.ndarray]]:
    """The first picture of each of the first ``4 · MOST`` clusters, the most detailed first."""
    first = {item.cluster: item for item in reversed(photographs.items())}
    pictures = [(cluster, photographs.read(item)) for cluster, item in list(first.items())[-4 * MOST :]]
    pictures.sort(key=lambda one: -float(np.abs(cv2.Laplacian(grey(one[1]), cv2.CV_32F)).mean()))
    return [(cluster, picture.astype(np.float32) / 255) for cluster, picture in pictures]


def _crop(photograph: np.ndarray, top: float, left: float, size: tuple[int, int]) -> np.ndarray:
    """A crop less its mean, mirrored on to ``size``: float32 ``(3, H, W)``."""
    height, width = (min(CROP, side) for side in photograph.shape[:2])
    row, column = int(top * (photograph.shape[0] - height + 1)), int(left * (photograph.shape[1] - width + 1))
    crop = photograph[row : row + height, column : column + width]
    crop = crop - crop.mean((0, 1))
    rows, columns = (
        np.pad(np.arange(n), (0, max(0, wanted - n)), "symmetric")[:wanted]
        for n, wanted in zip(crop.shape, size, strict=False)
    )
    return np.ascontiguousarray(crop[rows][:, columns].transpose(2, 0, 1))
