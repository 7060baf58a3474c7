"""Activity-weighted attack (Korhonen, You, QoEVMA workshop at ACM Multimedia 2022, doi 10.1145/3552469.3555715).

    z_{t+1} = Π( z_t + alpha · a(x) ⊙ sign ∇f(z_t) )

``a`` in [0, 1] is the spatial activity: the Sobel magnitude of the luma, divided by its maximum, each pixel taking the
largest value of a 5×5 disk around it, so that flat parts, where a change is seen, are spared. The paper weighs the
gradient and descends with Adam; Adam undoes a weight that stays the same, so ours are sign steps whose length is
weighted, 10 of eps/10. With that ``alpha`` it ends at ``eps · a`` from the image at most. For scores: the loss is the
score itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from iqarena.images.perception import grey
from iqarena.images.tensors import maps
from iqarena_attacks._frame import Iterative, State

DISK = np.array([[0, 1, 1, 1, 0], *[[1, 1, 1, 1, 1]] * 3, [0, 1, 1, 1, 0]], np.uint8)


@dataclass(frozen=True, kw_only=True, repr=False)
class Korhonen(Iterative):
    name = "korhonen"
    reconstructed = "weighted sign steps stand for the paper's Adam on a weighted gradient"
    bibtex = """@inproceedings{korhonen2022adversarial,
  title = {Adversarial Attacks Against Blind Image Quality Assessment Models},
  author = {Korhonen, Jari and You, Junyong},
  booktitle = {Workshop on Quality of Experience in Visual Multimedia Applications}, year = {2022}
}"""

    def start(self, s: State) -> None:
        s.memory["a"] = maps(activity, s.x)

    def move(self, s: State) -> Tensor:
        return s.memory["a"] * super().move(s)


def activity(image: np.ndarray) -> np.ndarray:
    """``a`` of a uint8 RGB image ``(H, W, 3)``: float32 ``(H, W)``; 1 everywhere in a flat one."""
    level = grey(image).astype(np.float32)
    slope = np.hypot(cv2.Sobel(level, cv2.CV_32F, 1, 0), cv2.Sobel(level, cv2.CV_32F, 0, 1))
    return cv2.dilate(slope / slope.max(), DISK) if slope.max() > 0 else np.ones_like(slope)
