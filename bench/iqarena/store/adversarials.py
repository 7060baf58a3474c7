"""Adversarial images of a run, kept as PNG under their craft keys (``keep = "adversarials"``).

They are not synced like row files: what is read back is compared with the hash in the rows, and an image that is
missing or damaged is crafted again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np


class Adversarials:
    """``folder/adversarials``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "adversarials"

    def path(self, craft_key: str) -> Path:
        return self.folder / craft_key[:2] / f"{craft_key}.png"

    def load(self, craft_key: str, sha256: str) -> np.ndarray | None:
        """The image, uint8 RGB ``(H, W, 3)``; none when there is none of that key whose pixels have that hash."""
        path = self.path(craft_key)
        if not path.is_file():
            return None
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        image = None if decoded is None else np.ascontiguousarray(decoded[..., ::-1])
        return image if image is not None and pixels_sha256(image) == sha256 else None


def png(image: np.ndarray) -> bytes:
    """uint8 RGB ``(H, W, 3)`` as a PNG file."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def pixels_sha256(image: np.ndarray) -> str:
    """Hash of an adversarial image's pixels, the ``sha256`` of its rows."""
    return hashlib.sha256(image.tobytes()).hexdigest()
