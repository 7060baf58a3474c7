"""Deterministic degradations of known strength, for spanning the score range and for ranking tests.

| kind | strength | unit |
|---|---|---|
| ``blur`` | standard deviation of a Gaussian | pixels |
| ``noise`` | standard deviation of white Gaussian noise | grey levels |
| ``jpeg`` | loss, ``100 - quality`` | 0–99 |
| ``dark`` | share of the light taken away | 0–1 |

A greater strength is always the stronger degradation.
"""

from __future__ import annotations

import cv2
import numpy as np

from iqarena.errors import SpecError, nearest

LADDERS: dict[str, tuple[float, ...]] = {
    "blur": (0.8, 1.5, 2.5, 4.0, 6.0),
    "noise": (6.0, 12.0, 22.0, 36.0, 55.0),
    "jpeg": (50.0, 70.0, 82.0, 90.0, 95.0),
}


def degrade(image: np.ndarray, kind: str, strength: float, seed: int = 0) -> np.ndarray:
    """A uint8 RGB image ``(H, W, 3)``, degraded: same shape; same arguments, same bytes.

    Raises :class:`SpecError` for another ``kind`` than those above.
    """
    if kind == "blur":
        return cv2.GaussianBlur(image, (0, 0), strength, borderType=cv2.BORDER_REFLECT_101)
    if kind == "noise":
        grain = np.random.default_rng(seed).normal(0.0, strength, image.shape)
        return _round8(image + grain)
    if kind == "jpeg":
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(100 - strength)])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None  # it was encoded one line above
        return np.ascontiguousarray(decoded[..., ::-1])
    if kind == "dark":
        return _round8(image * (1.0 - strength))
    raise SpecError(f"unknown degradation {kind!r}{nearest(kind, ['blur', 'noise', 'jpeg', 'dark'])}")


def ladder(image: np.ndarray, kind: str) -> list[np.ndarray]:
    """A uint8 RGB image ``(H, W, 3)`` itself and five degradations of it, weakest first.

    Raises :class:`SpecError` for a ``kind`` without a ladder.
    """
    if kind not in LADDERS:
        raise SpecError(f"no ladder of {kind!r}{nearest(kind, LADDERS)}")
    return [image, *(degrade(image, kind, strength) for strength in LADDERS[kind])]


def _round8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
