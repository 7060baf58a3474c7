"""Adversarial images of a run, kept under their craft keys (``keep = "adversarials"``).

Each zip holds two PNGs: the adversarial image, and how many grey levels beyond 0 or 255 the attack wanted to move each
pixel (mostly zero; controls need it). The files are not synced like row files: what is read back is compared with the
hash in the rows (and the zip's own), what is missing or damaged crafted again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import cv2
import numpy as np

_IMAGE, _BEYOND = "adversarial.png", "beyond_the_box.png"


class Adversarials:
    """``folder/adversarials``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "adversarials"

    def path(self, craft_key: str) -> Path:
        return self.folder / craft_key[:2] / f"{craft_key}.zip"

    def load(self, craft_key: str, sha256: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The image and the levels beyond the box, uint8 ``(H, W, 3)``; none unless its pixels have that hash."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.path(craft_key).read_bytes())) as archive:
                image, beyond = (_decoded(archive.read(name)) for name in (_IMAGE, _BEYOND))
        except Exception:  # zipfile and the decoder raise nearly anything for damaged bytes
            return None
        return (image, beyond) if pixels_sha256(image) == sha256 else None


def packed(image: np.ndarray, beyond: np.ndarray) -> bytes:
    """The file for an image (uint8 RGB) and the levels beyond the box."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in ((_IMAGE, image), (_BEYOND, beyond)):
            archive.writestr(zipfile.ZipInfo(name), png(array))  # without the time: the same image is the same file
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    """uint8 RGB ``(H, W, 3)`` as a PNG file."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def pixels_sha256(image: np.ndarray) -> str:
    """Hash of an adversarial image's pixels, the ``sha256`` of its rows."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def _decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise OSError("not a PNG file")
    return np.ascontiguousarray(image[..., ::-1])
