"""Rebuilding the embedded images out of packages: on small packages made here."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from iqarena.errors import ImageError
from iqarena.images.decode import decode
from iqarena.tools.embed import crop_to_jpeg, embed, qt_resources, read_rows

SCENE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8), (0, 0), 3)
ROW = {
    "id": "scene+noise8", "sha256": "", "title": "A scene", "author": "A. Nobody", "licence": "CC0-1.0", "source": "",
    "package": "PyPI some-images", "version": "1.2", "path": "some/data.rcc:a/scene.png", "source_sha256": "",
    "crop": "10 4 394 292", "earlier_changes": "", "stated_in": "`README`",
}  # fmt: skip


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SCENE).save(buffer, "PNG")
    return buffer.getvalue()


def resources(name: str, content: bytes, flags: int) -> bytes:
    """A Qt resource file, version 2, with the file ``a/name``."""
    stored = struct.pack(">I", len(content)) + zlib.compress(content) if flags else content
    contents = struct.pack(">I", len(stored)) + stored
    texts = [struct.pack(">HI", len(text), 0) + text.encode("utf-16-be") for text in ("a", name)]
    nodes = [
        struct.pack(">IHIIQ", 0, 2, 1, 1, 0),  # the root: one child, which is node 1
        struct.pack(">IHIIQ", 0, 2, 1, 2, 0),  # a
        struct.pack(">IHIIQ", len(texts[0]), flags, 0, 0, 0),
    ]
    parts = b"".join(nodes), contents, b"".join(texts)
    starts = [20, 20 + len(parts[0]), 20 + len(parts[0]) + len(parts[1])]
    return struct.pack(">4s4I", b"qres", 2, *starts) + b"".join(parts)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with ``images.csv`` of one row, beside a folder with its package."""
    (tmp_path / "packages").mkdir()
    with zipfile.ZipFile(tmp_path / "packages" / "some_images-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some/data.rcc", resources("scene.png", png(), 1))
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder, ROW | {"source_sha256": hashlib.sha256(png()).hexdigest()})
    return folder


def write(folder: Path, row: dict[str, str]) -> None:
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


@pytest.mark.parametrize("flags", [0, 1])
def test_qt_resources_are_read(flags: int) -> None:
    assert qt_resources(resources("x.webp", b"content", flags)) == {"a/x.webp": b"content"}


def test_an_image_is_cut_out_and_everything_is_written(out: Path) -> None:
    embed(out.parent / "packages", out)
    jpeg = (out / "scene.jpg").read_bytes()
    (row,) = read_rows(out)
    assert row["sha256"] == hashlib.sha256(jpeg).hexdigest()
    assert "`scene.jpg` | A scene, A. Nobody | PyPI some-images 1.2" in (out / "ATTRIBUTION.md").read_text("utf-8")
    assert np.abs(decode(jpeg, "x").astype(int) - SCENE[4:292, 10:394]).max() <= 8  # the box has the set's size
    before = [path.read_bytes() for path in sorted(out.iterdir())]
    embed(out.parent / "packages", out)
    assert [path.read_bytes() for path in sorted(out.iterdir())] == before


def test_a_colour_profile_is_converted_and_left_out() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    Image.fromarray(SCENE).save(buffer, "PNG", icc_profile=profile)
    plain, profiled = (crop_to_jpeg(data, (0, 0, 400, 300)) for data in (png(), buffer.getvalue()))
    assert "icc_profile" not in Image.open(io.BytesIO(profiled)).info
    assert np.abs(decode(plain, "x").astype(int) - decode(profiled, "x")).max() <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1.3"}, "expected PyPI some-images 1.3, found no some_images-1.3-"),
        ({"package": "Debian some-images", "version": "4:1.2"}, "found no some-images_4%3a1.2_"),
        ({"path": "some/data.rcc:b/scene.png"}, "expected a file some/data.rcc:b/scene.png, found none"),
        ({"path": "some/scene.png"}, "expected a file some/scene.png, found none"),
        ({"licence": "CC-BY-NC-4.0"}, "found licence 'CC-BY-NC-4.0'"),
        ({"source_sha256": "0" * 64}, "expected sha256 0000"),
    ],
)
def test_what_does_not_fit_is_named(out: Path, change: dict[str, str], message: str) -> None:
    (row,) = read_rows(out)
    write(out, row | change)
    with pytest.raises(ImageError) as caught:
        embed(out.parent / "packages", out)
    assert message in str(caught.value)
    assert not (out / "scene.jpg").exists()
