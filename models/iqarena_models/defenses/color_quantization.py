"""The picture in few colours: every pixel takes a colour of a palette made for this picture.

Gervautz, Purgathofer, *A Simple Method for Color Quantization: Octree Quantization*, New Trends in Computer Graphics,
1988::

    T(x)_p = the mean colour of the box of the octree that x_p falls into;   at most `colors` boxes are kept

by Pillow, without dithering. Benchmarks of defended quality models quantise to 16 levels; that can be read as 16 levels
a channel, which is ``bit_depth(bits=4)`` here, or as 16 colours, which is this. The palette has no
useful gradient: a white-box attack is given a straight-through one.
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
class ColorQuantization(Purification):
    """A palette of ``colors`` colours made for the picture, 2 to 256."""

    name = "color_quantization"
    differentiable = False
    reconstructed = "16 read as the colours of a palette; 16 levels a channel are bit_depth(bits=4)"

    colors: int = 16

    def __post_init__(self) -> None:
        if not 2 <= self.colors <= 256:
            raise SpecError(f"color_quantization: expected 2 to 256 colors, found {self.colors}")

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from iqarena_models.defenses._pictures import each_picture

        return each_picture(x, self._quantized)

    def _quantized(self, picture: np.ndarray) -> np.ndarray:
        import numpy as np
        from PIL import Image

        image = Image.fromarray(picture)
        few = image.quantize(self.colors, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        return np.asarray(few.convert("RGB"))
