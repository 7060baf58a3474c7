"""What an eye notices: grey levels and the just-noticeable difference (JND) of a picture.

The JND is the pixel-domain model of Liu, Lin, Paul, Deng and Zhang, "Just noticeable difference for images with
decomposition model for separating edge and textured regions" (IEEE TCSVT 20(11), 2010), with a Canny map as the
structure part. With ``v`` the grey level and ``C(·)`` the largest minus the smallest value of a 5×5 window::

    LA  = 17 (1 − √(v / 127)) + 3   for v ≤ 127,   3 (v − 127) / 128 + 3   above      luminance adaptation
    CM  = 0.117 C(structure) + 0.351 C(texture)                                       contrast masking
    JND = LA + CM − 0.3 min(LA, CM)

``structure`` is 0 or 255; ``texture = grey − structure`` wraps around in 8 bits, as in the published form, so that
an edge pixel holds ``grey + 1``. At the border a window is cut to the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

_LEVELS = np.arange(256, dtype=np.float32)
_ADAPTATION = np.where(_LEVELS <= 127, 17 * (1 - np.sqrt(_LEVELS / 127)) + 3, 3 * (_LEVELS - 127) / 128 + 3)
_WINDOW = np.ones((5, 5), np.uint8)


def grey(picture: np.ndarray) -> np.ndarray:
    """Luma (BT.601) of a uint8 RGB picture ``(H, W, 3)``, rounded to uint8 ``(H, W)``."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"expected a uint8 RGB picture (H, W, 3), found {picture.dtype} {picture.shape}")
    return cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)


def jnd_map(picture: np.ndarray) -> np.ndarray:
    """Just-noticeable difference of a uint8 RGB picture ``(H, W, 3)``: float32 ``(H, W)`` in grey levels."""
    level = grey(picture)
    structure = cv2.Canny(level, 50, 150)
    texture = level - structure  # uint8 arithmetic: wraps
    adaptation = _ADAPTATION[level]
    masking = 0.117 * _contrast(structure) + 0.351 * _contrast(texture)
    return adaptation + masking - 0.3 * np.minimum(adaptation, masking)


def _contrast(plane: np.ndarray) -> np.ndarray:
    return (cv2.dilate(plane, _WINDOW) - cv2.erode(plane, _WINDOW)).astype(np.float32)
