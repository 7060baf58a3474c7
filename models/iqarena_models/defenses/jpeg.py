"""JPEG compression and decompression of the picture before it is scored.

Dziugaite, Ghahramani, Roy, *A study of the effect of JPG compression on adversarial images*, ISBA 2016,
arXiv 1608.00853; as a preprocessing layer Guo, Rana, Cissé, van der Maaten, *Countering Adversarial Images using Input
Transformations*, ICLR 2018, arXiv 1711.00117::

    T(x) = decode(encode(round8(x), quality))

The codec is OpenCV's (libjpeg, colour at half resolution). Quality 50 is the value usual in benchmarks of defended
quality models. Quantisation has no useful gradient: a white-box attack is given a straight-through one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api import Purification, SpecError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Jpeg(Purification):
    """JPEG compression at a quality of 1 (worst) to 100."""

    name = "jpeg"
    differentiable = False
    bibtex = """@inproceedings{guo2018countering,
  title = {Countering Adversarial Images using Input Transformations},
  author = {Guo, Chuan and Rana, Mayank and Ciss{\\'e}, Moustapha and van der Maaten, Laurens},
  booktitle = {ICLR},
  year = {2018}
}"""

    quality: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise SpecError(f"jpeg: expected quality from 1 to 100, found {self.quality}")

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from iqarena_models.defenses._pictures import each_picture

        return each_picture(x, self._compressed)

    def _compressed(self, picture: np.ndarray) -> np.ndarray:
        import cv2
        import numpy as np

        coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
