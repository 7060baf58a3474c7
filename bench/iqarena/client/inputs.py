"""Images in whatever form a caller has them, and the way back to that form.

| form | in | adversarial image | scores |
|---|---|---|---|
| tensor | float32 or 64, ``(3, H, W)`` or ``(N, 3, H, W)``, in [0, 1] | same shape, type, device | float; ``(N,)`` |
| array | uint8 RGB ``(H, W, 3)`` | the same | float |
| PIL image | 8 bits, grey or colour | RGB | float |
| path | PNG, JPEG, BMP, WebP, TIFF of 8 bits | PIL image, RGB | float |
| list or tuple | of them, sizes and forms may differ | list | list of floats |

Nothing is guessed: what is grey, 16 bits, outside [0, 1] or laid out otherwise as an array or tensor is refused with
the step that mends it. PIL images and files are decoded by the rules of :mod:`iqarena.images.decode`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqarena.errors import ImageError, IqarenaError
from iqarena.images.decode import decode_file, from_pil
from iqarena.images.tensors import to_float, to_images

ImageLike: TypeAlias = "Tensor | np.ndarray | Image.Image | str | PathLike[str]"
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike]"

_SLACK = 1e-5  # of a float's rounding around 0 and 1


@dataclass(frozen=True)
class Images:
    """``given`` by the caller, and each image of it as float32 ``(3, H, W)`` in [0, 1]."""

    given: Any
    x: list[Tensor]

    @classmethod
    def of(cls, given: ImagesLike) -> Images:
        """Raises :class:`ImageError` for whatever is not an image in one of the forms above."""
        if isinstance(given, (list, tuple)):
            images = [_read(image) for image in given]
        elif isinstance(given, Tensor) and given.ndim == 4:
            images = list(_tensor(given))
        else:
            images = [_read(given)]
        if not images:
            raise ImageError("expected at least one image, found none")
        return cls(given, images)

    def scores(self, scores: Sequence[float]) -> Any:
        """Scores, one an image, in the form that answers ``given``."""
        if isinstance(self.given, (list, tuple)):
            return list(scores)
        if isinstance(self.given, Tensor) and self.given.ndim == 4:
            return torch.tensor(scores, dtype=torch.float32, device=self.given.device)
        return scores[0]

    def images(self, pixels: Sequence[Tensor]) -> Any:
        """uint8 ``(3, H, W)`` images in the form that answers ``given``."""
        if isinstance(self.given, (list, tuple)):
            return [_like(one, image) for one, image in zip(self.given, pixels, strict=True)]
        if isinstance(self.given, Tensor) and self.given.ndim == 4:
            return _like(self.given, torch.stack(list(pixels)))
        return _like(self.given, pixels[0])

    def by_size(self, most: int) -> list[list[int]]:
        """Positions of images of one size, at most ``most`` together."""
        sizes: dict[torch.Size, list[int]] = {}
        for i, image in enumerate(self.x):
            sizes.setdefault(image.shape, []).append(i)
        return [places[k : k + most] for places in sizes.values() for k in range(0, len(places), most)]

    @contextmanager
    def named(self, group: Sequence[int]) -> Iterator[None]:
        """An error in here begins with the paths of these positions, as far as paths were given."""
        try:
            yield
        except IqarenaError as error:
            given = self.given if isinstance(self.given, (list, tuple)) else [self.given] * len(self.x)
            if paths := [str(given[i]) for i in group if isinstance(given[i], (str, PathLike))]:
                error.args = (f"{', '.join(paths)}: {error}",)
            raise


def to_array(pixels: Tensor) -> np.ndarray:
    """uint8 ``(3, H, W)`` → uint8 ``(H, W, 3)``."""
    return to_images(pixels[None])[0]


def _like(given: ImageLike, pixels: Tensor) -> Any:
    if isinstance(given, Tensor):
        return pixels.to(given.device, given.dtype) / 255
    return to_array(pixels) if isinstance(given, np.ndarray) else Image.fromarray(to_array(pixels))


def _read(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        if image.ndim == 4:
            raise ImageError(f"expected images (3, H, W) in a list, found a batch {tuple(image.shape)}; pass it alone")
        return _tensor(image)
    if isinstance(image, np.ndarray):
        array = _array(image)
    elif isinstance(image, Image.Image):
        array = from_pil(image, "PIL image")
    elif isinstance(image, (str, PathLike)):
        array = decode_file(Path(os.path.expanduser(image)))
    else:
        raise ImageError(f"expected a tensor, uint8 array, PIL image or path, found {type(image).__name__}")
    return to_float([array])[0]


def _tensor(x: Tensor) -> Tensor:
    expected = "expected a floating tensor (3, H, W) or (N, 3, H, W) in [0, 1]"
    shape = tuple(x.shape)
    if x.ndim not in (3, 4) or shape[-3] != 3 or 0 in shape:
        if x.ndim == 3 and shape[-1] == 3:
            step = "x.permute(2, 0, 1)"
        elif x.ndim in (3, 4) and shape[-3] == 1:
            step = "repeat grey in three channels: x.expand(*x.shape[:-3], 3, -1, -1)"
        else:
            step = "reshape it"
        raise ImageError(f"{expected}, found shape {shape}; {step}")
    if not x.is_floating_point():
        raise ImageError(f"{expected}, found {x.dtype}; for levels of 0 to 255 pass x.float() / 255")
    if x.dtype not in (torch.float32, torch.float64):
        raise ImageError(f"{expected}, found {x.dtype}, too coarse for a budget of grey levels; pass x.float()")
    x = x.detach().float()
    low, high = (float(end) for end in x.aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is outside too
        if x.isnan().any():
            raise ImageError(f"{expected}, found NaN values; mend what made them")
        step = "divide by 255" if 2 < high <= 255 and low >= 0 else "undo a normalisation, or clamp(0, 1)"
        raise ImageError(f"{expected}, found values from {low:.4g} to {high:.4g}; {step}")
    return x.clamp(0, 1)


def _array(image: np.ndarray) -> np.ndarray:
    expected = "expected a uint8 RGB array (H, W, 3)"
    if image.dtype != np.uint8:
        if image.dtype.kind == "f":
            step = "for values in [0, 1]: (image * 255).round().astype('uint8')"
        else:
            step = "reduce it to 8 bits on purpose: (image // 257).astype('uint8') for 16"
        raise ImageError(f"{expected}, found {image.dtype} {image.shape}; {step}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        if image.ndim == 2:
            step = "repeat grey in three channels: numpy.stack([image] * 3, axis=-1)"
        elif image.ndim == 4:
            step = "pass a list of images: list(images)"
        elif image.ndim == 3 and image.shape[0] == 3:
            step = "image.transpose(1, 2, 0)"
        else:
            step = "drop other channels than red, green and blue"
        raise ImageError(f"{expected}, found shape {image.shape}; {step}")
    return np.array(image)
