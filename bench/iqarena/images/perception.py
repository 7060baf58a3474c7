"""What an eye notices: grey levels, edges, saliency and the just-noticeable difference (JND) of an image.

The JND is the pixel-domain model of Liu, Lin, Paul, Deng and Zhang, "Just noticeable difference for images with
decomposition model for separating edge and textured regions" (IEEE TCSVT 20(11), 2010), with a Canny map as the
structure part. With ``v`` the grey level and ``C(·)`` the largest minus the smallest value of a 5×5 window::

    LA  = 17 (1 − √(v / 127)) + 3   for v ≤ 127,   3 (v − 127) / 128 + 3   above      luminance adaptation
    CM  = 0.117 C(structure) + 0.351 C(texture)                                       contrast masking
    JND = LA + CM − 0.3 min(LA, CM)

``structure`` is 0 or 255; ``texture = grey − structure`` wraps around in 8 bits, as in the published form, so that
an edge pixel holds ``grey + 1``. At the border a window is cut to the image.

Saliency is the spectral residual (Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007): the
image, 64 pixels on its short side, is rebuilt from its phase and from what its log amplitude has beyond a local mean.
"""

from __future__ import annotations

import cv2
import numpy as np

_LEVELS = np.arange(256, dtype=np.float32)
_ADAPTATION = np.where(_LEVELS <= 127, 17 * (1 - np.sqrt(_LEVELS / 127)) + 3, 3 * (_LEVELS - 127) / 128 + 3)
_WINDOW = np.ones((5, 5), np.uint8)
_BAND = 64  # rows at a time: float temporaries of a large image's size would be most of the memory


def grey(image: np.ndarray) -> np.ndarray:
    """Luma (BT.601) of a uint8 RGB image ``(H, W, 3)``, rounded to uint8 ``(H, W)``; ``ValueError`` for any other."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 RGB image (H, W, 3), found {image.dtype} {image.shape}")
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def jnd_map(image: np.ndarray) -> np.ndarray:
    """Just-noticeable difference of a uint8 RGB image ``(H, W, 3)``: float32 ``(H, W)`` in grey levels.

    Raises as :func:`grey`."""
    level = grey(image)
    structure = cv2.Canny(level, 50, 150)
    texture = level - structure  # uint8 arithmetic: wraps
    edges, grain = _contrast(structure), _contrast(texture)
    jnd = np.empty(level.shape, np.float32)
    for top in range(0, len(level), _BAND):
        rows = slice(top, top + _BAND)
        adaptation = _ADAPTATION[level[rows]]
        masking = 0.117 * edges[rows].astype(np.float32) + 0.351 * grain[rows].astype(np.float32)
        jnd[rows] = adaptation + masking - 0.3 * np.minimum(adaptation, masking)
    return jnd


def edge_mask(image: np.ndarray) -> np.ndarray:
    """Pixels on or beside a Canny(50, 150) edge of a uint8 RGB image ``(H, W, 3)``: bool ``(H, W)``.

    Raises as :func:`grey`."""
    return cv2.dilate(cv2.Canny(grey(image), 50, 150), np.ones((3, 3), np.uint8)) > 0


def saliency_map(image: np.ndarray) -> np.ndarray:
    """Spectral-residual saliency of a uint8 RGB image ``(H, W, 3)``: float32 ``(H, W)`` from 0 to 1.

    Raises as :func:`grey`."""
    level = grey(image)
    height, width = level.shape
    scale = 64 / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    spectrum = np.fft.fft2(cv2.resize(level, size, interpolation=cv2.INTER_AREA).astype(np.float64))
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3))
    energy = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.GaussianBlur(energy, (0, 0), 2.5)
    smooth = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    span = float(np.ptp(smooth))
    return ((smooth - smooth.min()) / span if span > 0 else np.zeros_like(smooth)).astype(np.float32)


def _contrast(plane: np.ndarray) -> np.ndarray:
    return cv2.dilate(plane, _WINDOW) - cv2.erode(plane, _WINDOW)
