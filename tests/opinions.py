"""A folder of tiny images with opinion scores, for tests of training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_opinions(folder: Path, *, train: int = 16, val: int = 8, height: int = 40, width: int = 48) -> Path:
    """``00.png`` …, whose opinion score (0–1) falls with their blur; the first ``train`` are for training."""
    (folder / "images").mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["image,mos,split"]
    for i in range(train + val):
        sigma = float(rng.uniform(0.3, 4))
        image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), sigma)
        cv2.imwrite(str(folder / "images" / f"{i:02}.png"), image)
        lines.append(f"{i:02}.png,{1 - sigma / 4:.4f},{'train' if i < train else 'val'}")
    (folder / "mos.csv").write_text("\n".join(lines))
    return folder
