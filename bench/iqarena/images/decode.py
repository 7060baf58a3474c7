"""Image files to uint8 RGB ``(H, W, 3)``, never changing a value silently.

PNG, JPEG, BMP, WebP and TIFF with 8 bits per channel. Grey is repeated in the three channels, a palette is looked
up, an alpha channel that is opaque everywhere is dropped, the EXIF orientation is applied, a colour profile is left
out of account (scorers are trained on the stored values). Everything else is an :class:`ImageError`: transparency,
16 bits, CMYK, animations and page stacks, more than ``MAX_PIXELS`` pixels, damaged files.

The header is read first. Large images are decoded one at a time, at 7 bytes a pixel: pillow's 4 and the 3 that stay.
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from iqarena.errors import ImageError
from iqarena.images.memory import MAX_PIXELS, one_at_a_time

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
MAX_BYTES = 8 * MAX_PIXELS  # of a file: twice an uncompressed image with alpha

SETTLING = 2_000_000_000  # ns, the coarsest clock of a file system
_BITS_PER_SAMPLE = 258  # TIFF tag
_PNG_DEPTH = 24  # offset of the bit depth in the header, which always comes first
_EXPECTED = "expected an 8-bit grey or RGB image (PNG, JPEG, BMP, WebP, TIFF)"
_BAND = 256  # rows that are copied at a time
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def stamp(path: Path) -> str:
    """Fingerprint of inode, size, mtime and ctime. Empty when the file is missing, or changed so recently that a second
    change could go unnoticed."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return ""
    if time.time_ns() - stat.st_ctime_ns < SETTLING:
        return ""
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def decode_file(path: Path) -> np.ndarray:
    """One file as uint8 RGB ``(H, W, 3)``; raises :class:`ImageError` naming it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a null character is no OSError
        raise ImageError(f"{path}: {_EXPECTED}, cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{path}: {_EXPECTED}, found more than {MAX_BYTES // 1_000_000} MB; scale it down")
    return decode(data, str(path))


def decode(data: bytes, name: str) -> np.ndarray:
    """The bytes of one file as uint8 RGB ``(H, W, 3)``; raises :class:`ImageError`, which calls it ``name``."""
    if not data:
        raise ImageError(f"{name}: {_EXPECTED}, found an empty file; copy it again")
    try:
        with Image.open(io.BytesIO(data)) as image:
            surprise = _surprise(image, data)
            if not surprise:
                with one_at_a_time(image.width * image.height):
                    ImageOps.exif_transpose(image, in_place=True)
                    return _to_rgb(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        surprise = f"something else or a broken header, starting with {data[:8]!r}; convert or remove it"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        surprise = f"far over {MAX_PIXELS} pixels; scale it down"
    except Exception as error:  # the decoders raise nearly anything for damaged bytes: one bad file is one error row
        surprise = _damage(error)
    raise ImageError(f"{name}: {_EXPECTED}, found {surprise}")


def from_pil(image: Image.Image, name: str) -> np.ndarray:
    """An image that pillow has opened, of any file format, by the same rules; 16 bits that pillow made 8 of are not
    noticed."""
    if unfit := _unfit(image):
        raise ImageError(f"{name}: {_EXPECTED}, found {unfit}")
    try:
        with one_at_a_time(image.width * image.height):
            return _to_rgb(ImageOps.exif_transpose(image), name)
    except ImageError:
        raise
    except Exception as error:  # opened lazily: the pixels are read now
        raise ImageError(f"{name}: {_EXPECTED}, found {_damage(error)}") from None


def centre(image: np.ndarray, crop: int | None, name: str) -> np.ndarray:
    """The middle ``crop`` × ``crop`` pixels of an image, or all of it; a smaller one is an :class:`ImageError`."""
    if crop is None:
        return image
    height, width = image.shape[:2]
    if min(height, width) < crop:
        raise ImageError(
            f"{name}: expected at least {crop}x{crop} pixels to crop, found {width}x{height};"
            " take a smaller crop or whole images (crop = none)"
        )
    top, left = (height - crop) // 2, (width - crop) // 2
    return np.ascontiguousarray(image[top : top + crop, left : left + crop])


def _surprise(image: Image.Image, data: bytes) -> str:
    """What speaks against decoding, seen before any pixel is unpacked; empty if nothing does."""
    if image.format not in (*FORMATS, "MPO"):  # a camera's JPEG with previews behind it; the first frame is the image
        return f"{image.format}; convert it to PNG"
    bits = _bits(image, data)
    if bits > 8:
        return f"{bits} bits per channel; convert it on purpose, for example: magick in.png -depth 8 out.png"
    return _unfit(image)


def _unfit(image: Image.Image) -> str:
    """What speaks against the pixels of an opened image; empty if nothing does."""
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        return f"{getattr(image, 'n_frames', 0)} frames or pages; save the wanted one as a PNG of its own"
    if image.width * image.height > MAX_PIXELS:
        return f"{image.width}x{image.height} pixels, over the limit of {MAX_PIXELS}; scale it down"
    if image.mode not in _MODES:
        return f"colour mode {image.mode}; reduce it to 8 bits and convert it to RGB"
    return ""


def _damage(error: Exception) -> str:
    return f"a damaged or truncated file ({' '.join(str(error).split()) or type(error).__name__}); copy it again"


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel as stored: pillow opens 16-bit colour as 8-bit RGB without a word."""
    if image.format == "PNG":
        return data[_PNG_DEPTH]
    if image.format == "TIFF":
        stored = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
        return max(stored) if isinstance(stored, tuple) else int(stored)
    return 8


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """In bands, so that no second copy of a large image is made on the way."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if image.has_transparency_data:
            band = band.convert("RGBA")
            lowest = np.asarray(band)[..., 3].min()
            if lowest < 255:
                raise ImageError(
                    f"{name}: {_EXPECTED}, found transparency (alpha down to {lowest} of 255); "
                    "flatten it on a background, for example: magick in.png -background white -flatten out.png"
                )
        pixels[top : top + _BAND] = np.asarray(band.convert("RGB"))
    return pixels
