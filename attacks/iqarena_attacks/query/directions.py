"""Initial directions of the score-boundary attack (arXiv 2401.05217): crops of high-frequency reference images.

A direction is one of ten 224 crops, drawn once an image, times ``0.1·r``, ``r ~ U(−1, 1)``, kept where there is
something to see: on and beside Canny edges of the colour image, and where the saliency exceeds 0.225. Ours: the crops
are of the ten most detailed of up to 40 reference images, one each; the saliency is the spectral residual; every fourth
direction is sparse noise instead, signs of that strength on a random 5–10 % of those pixels; larger images mirror the
crop on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from iqarena.api import ImageError, ImageSet
from iqarena.images.perception import grey, saliency_map
from iqarena.images.tensors import to_float, to_images, to_uint8
from iqarena_attacks.query._frame import Case

CROP, STRENGTH, SALIENT = 224, 0.1, 0.225
CROPS = 10


class Directions:
    """Random directions ``(3, H, W)`` for one image."""

    def __init__(self, case: Case, references: ImageSet) -> None:
        (image,) = to_images(to_uint8(case.x[None]))
        edges = cv2.blur(cv2.Canny(image, 50, 150), (3, 3)) > 0
        seen = edges | (saliency_map(image) > SALIENT)
        self._mask = torch.from_numpy(seen if seen.any() else np.ones_like(seen)).to(case.x)
        self._case, self._drawn = case, 0
        details = high_frequency(references, besides=case.draw.images[0])
        places = np.reshape(case.uniform(2 * CROPS), (CROPS, 2))
        self._crops = [
            _crop(details[i % len(details)], top, left, case.x.shape[-2:]).to(case.x)
            for i, (top, left) in enumerate(places.tolist())
        ]

    def draw(self) -> Tensor:
        self._drawn += 1
        which, r, share = self._case.uniform(3)
        strength = STRENGTH * (2 * r - 1)
        if self._drawn % 4 == 0:
            kept = self._case.draw.uniform(self._mask[None])[0] < 0.05 + 0.05 * share
            return strength * self._mask * kept * self._case.draw.signs(self._case.x[None])[0]
        return self._mask * strength * self._crops[int(which * CROPS)]


def high_frequency(images: ImageSet, besides: str) -> list[Tensor]:
    """The ``CROPS`` images, ``(3, H, W)`` in [0, 1], with the largest mean ``|Laplacian|``.

    Not among them: what has the same reference image as the image ``besides``, where that is of this set.
    """
    own = {item.cluster for item in images.items() if item.id == besides}
    others = [image for cluster, image in _by_detail(images) if cluster not in own][:CROPS]
    if not others:
        raise ImageError(f"expected images besides the attacked one in {images!r}, found none; give more")
    return others


@cache
def _by_detail(images: ImageSet) -> list[tuple[str, Tensor]]:
    """One image, undistorted where the set can give it, of each of the first ``4 · CROPS`` clusters, the most detailed
    first."""
    first = {item.cluster: item for item in reversed(images.items())}
    pixels = [(cluster, images.read_reference(item)) for cluster, item in list(first.items())[-4 * CROPS :]]
    pixels.sort(key=lambda one: -float(np.abs(cv2.Laplacian(grey(one[1]), cv2.CV_32F)).mean()))
    return [(cluster, to_float([image])[0]) for cluster, image in pixels]


def _crop(image: Tensor, top: float, left: float, size: Sequence[int]) -> Tensor:
    """A crop, mirrored on to ``size``: ``(3, H, W)``."""
    for axis, place, wanted in ((1, top, size[0]), (2, left, size[1])):
        length = image.shape[axis]
        side = min(CROP, length)
        image = image.narrow(axis, int(place * (length - side + 1)), side)
        if wanted <= side:
            image = image.narrow(axis, 0, wanted)
        else:
            image = image.index_select(axis, torch.from_numpy(np.pad(np.arange(side), (0, wanted - side), "symmetric")))
    return image
