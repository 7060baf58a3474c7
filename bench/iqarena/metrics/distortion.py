"""How far an adversarial image is from the clean one. Both are uint8 RGB ``(H, W, 3)``.

| key | what | unit |
|---|---|---|
| ``linf`` | largest change of a channel value | [0, 1] |
| ``l2`` | Euclidean norm of the change over all values | [0, 1] scale |
| ``psnr`` | ``10 log10(1 / mean squared change)``; infinite for equal images | dB |
| ``ssim`` | structural similarity of the lumas; NaN where a side is under 11 pixels | up to 1 |
| ``changed`` | pixels with any change | share |
| ``above_jnd`` | pixels whose largest channel change exceeds the clean image's JND | share |

SSIM is of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (IEEE TIP 13(4), 2004), at full size: Gaussian window 11×11 with σ = 1.5, K₁ = 0.01, K₂ = 0.03, averaged
over the windows that lie inside the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from iqarena.images.perception import grey, jnd_map

_RADIUS, _SIGMA = 5, 1.5
_BAND = 32  # rows at a time: temporaries that stay in the cache are much faster than full planes, and small
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Reference:
    """A clean image and everything about it that does not depend on the attack."""

    image: np.ndarray  # uint8 (H, W, 3)
    jnd: np.ndarray  # float32 (H, W), grey levels
    luma: np.ndarray  # float32 (H, W), 128 taken away: SSIM is then right to 1e-5 in float32
    mean: np.ndarray  # float32, windows inside the image
    variance: np.ndarray

    @classmethod
    def of(cls, clean: np.ndarray) -> Reference:
        """What is known of a uint8 RGB image ``(H, W, 3)``; raises ``ValueError`` for any other."""
        jnd = jnd_map(clean)
        luma = _luma(clean)
        mean, variance = _smooth(luma), _smooth(luma * luma)
        for top in range(0, len(mean), _BAND):
            variance[top : top + _BAND] -= mean[top : top + _BAND] ** 2
        return cls(clean, jnd, luma, mean, variance)


def distortion(clean: np.ndarray | Reference, adversarial: np.ndarray) -> dict[str, float]:
    """The table above as a dict; pass :meth:`Reference.of` the clean image when it is compared many times.

    Raises ``ValueError`` for an image that is not uint8 RGB, or two of different sizes.
    """
    reference = clean if isinstance(clean, Reference) else Reference.of(clean)
    if adversarial.dtype != np.uint8 or adversarial.shape != reference.image.shape:
        given = f"{adversarial.dtype} {adversarial.shape}"
        raise ValueError(f"expected uint8 {reference.image.shape} like the clean image, found {given}")
    change = cv2.absdiff(reference.image, adversarial)
    red, green, blue = cv2.split(change)
    largest = cv2.max(cv2.max(red, green), blue)
    squares = cv2.norm(change, cv2.NORM_L2SQR) / 255**2
    return {
        "linf": float(largest.max()) / 255,
        "l2": math.sqrt(squares),
        "psnr": 10 * math.log10(change.size / squares) if squares else math.inf,
        "ssim": _ssim(reference, adversarial),
        "changed": cv2.countNonZero(largest) / largest.size,
        "above_jnd": float(np.mean(largest > reference.jnd)),
    }


def _ssim(reference: Reference, adversarial: np.ndarray) -> float:
    if reference.mean.size == 0:
        return math.nan
    total = 0.0
    for top in range(0, len(reference.mean), _BAND):
        inside, around = slice(top, top + _BAND), slice(top, top + _BAND + 2 * _RADIUS)
        x, xx = reference.mean[inside], reference.variance[inside]
        luma = _luma(adversarial[around])
        y, yy, xy = _smooth(luma), _smooth(luma * luma), _smooth(reference.luma[around] * luma)
        luma_x, luma_y = x + 128, y + 128
        similar = (2 * luma_x * luma_y + _C1) * (2 * (xy - x * y) + _C2)
        total += float(np.sum(similar / ((luma_x * luma_x + luma_y * luma_y + _C1) * (xx + yy - y * y + _C2))))
    return total / reference.mean.size


def _luma(image: np.ndarray) -> np.ndarray:
    return grey(image).astype(np.float32) - 128


def _smooth(plane: np.ndarray) -> np.ndarray:
    size = 2 * _RADIUS + 1
    return cv2.GaussianBlur(plane, (size, size), _SIGMA)[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
