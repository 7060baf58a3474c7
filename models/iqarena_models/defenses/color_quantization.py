"""The image in few colours: every pixel takes a colour of a palette made for this image.

Gervautz, Purgathofer, *A Simple Method for Color Quantization: Octree Quantization*, New Trends in Computer Graphics,
1988::

    T(x)_p = the mean colour of the box of the octree that x_p falls into;   at most `colors` boxes are kept

by Pillow, without dithering. Benchmarks of defended quality models quantise to 16 levels; that can be read as 16 levels
a channel, which is ``bit_depth(bits=4)`` here, or as 16 colours, which is this. The palette has no
useful gradient: a white-box attack is given a straight-through one.
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
class ColorQuantization(Purification):
    """A palette of ``colors`` colours made for the image, 2 to 256.

    colors: in the palette
    """

    name = "color_quantization"
    differentiable = False
    reconstructed = "16 read as the colours of a palette; 16 levels a channel are bit_depth(bits=4)"

    colors: Annotated[int, Interval(ge=2, le=256)] = 16

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from iqarena.images.tensors import each_image

        return each_image(self._quantized, x)

    def _quantized(self, image: np.ndarray) -> np.ndarray:
        import numpy as np
        from PIL import Image

        options = {"method": Image.Quantize.FASTOCTREE, "dither": Image.Dither.NONE}
        return np.asarray(Image.fromarray(image).quantize(self.colors, **options).convert("RGB"))
