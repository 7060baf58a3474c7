"""JPEG compression and decompression of the image before it is scored.

Dziugaite, Ghahramani, Roy, *A study of the effect of JPG compression on adversarial images*, ISBA 2016,
arXiv 1608.00853; as a preprocessing layer Guo, Rana, Cissé, van der Maaten, *Countering Adversarial Images using Input
Transformations*, ICLR 2018, arXiv 1711.00117::

    T(x) = decode(encode(round8(x), quality))

The codec is OpenCV's (libjpeg, colour at half resolution). Quality 50 is the value usual in benchmarks of defended
quality models. Quantisation has no useful gradient: a white-box attack is given a straight-through one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from iqarena.api import Purification

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Jpeg(Purification):
    """JPEG compression at a quality of 1 (worst) to 100.

    quality: of the codec, 100 the best
    """

    name = "jpeg"
    differentiable = False
    bibtex = """@inproceedings{guo2018countering,
  title = {Countering Adversarial Images using Input Transformations},
  author = {Guo, Chuan and Rana, Mayank and Ciss{\\'e}, Moustapha and van der Maaten, Laurens},
  booktitle = {ICLR},
  year = {2018}
}"""

    quality: Annotated[int, Interval(ge=1, le=100)] = 50

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from iqarena.images.tensors import each_image

        return each_image(self._compressed, x)

    def _compressed(self, image: np.ndarray) -> np.ndarray:
        import cv2
        import numpy as np

        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
