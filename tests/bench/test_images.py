"""Image sets: degradations, folders, and every kind of file that a folder may hold."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakesets import refusal
from PIL import Image

from iqarena.errors import ImageError, SpecError
from iqarena.images.decode import MAX_PIXELS, decode, decode_file
from iqarena.images.degrade import LADDERS, degrade, ladder
from iqarena.images.sets.folder import FolderImages
from iqarena.images.sets.pocket import PocketImages

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (13, 17, 3), np.uint8)
ITEMS = PocketImages().items()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cv2_encoded(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


# degradations


@pytest.mark.parametrize("kind", sorted(LADDERS))
def test_ladder_gets_worse_step_by_step(kind: str) -> None:
    for item in [i for i in ITEMS if "+" not in i.id]:
        clean = PocketImages().read(item)
        steps = ladder(clean, kind)
        assert len(steps) == 6
        errors = [float(np.mean((step.astype(float) - clean) ** 2)) for step in steps]
        assert errors[0] == 0
        assert all(a < b for a, b in itertools.pairwise(errors))


def test_degradation_depends_on_its_seed_only() -> None:
    np.testing.assert_array_equal(degrade(IMAGE, "noise", 9.0, 1), degrade(IMAGE, "noise", 9.0, 1))
    assert (degrade(IMAGE, "noise", 9.0, 1) != degrade(IMAGE, "noise", 9.0, 2)).any()
    for kind in ("blur", "noise", "jpeg"):
        before = IMAGE.copy()
        degrade(IMAGE, kind, 5.0)
        np.testing.assert_array_equal(IMAGE, before)


def test_unknown_degradation_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="'blur'"):
        degrade(IMAGE, "blurr", 1.0)
    with pytest.raises(SpecError, match="'noise'"):
        ladder(IMAGE, "nois")


# decoding


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    data = encoded(Image.fromarray(IMAGE), kind, **({"lossless": True} if kind == "WEBP" else {}))
    actual = decode(data, "x")
    np.testing.assert_array_equal(actual, IMAGE)
    assert actual.flags.writeable
    assert actual.flags.c_contiguous


def test_jpeg_is_close_and_matches_a_second_decoder() -> None:
    smooth = cv2.GaussianBlur(np.tile(IMAGE, (4, 4, 1)), (0, 0), 6)
    data = encoded(Image.fromarray(smooth), "JPEG", quality=95, subsampling=0)
    actual = decode(data, "x").astype(int)
    assert np.abs(actual - smooth).max() <= 6
    second = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert second is not None
    assert np.abs(actual - second[..., ::-1]).max() <= 1


def test_grey_palette_and_bilevel_are_expanded() -> None:
    plane = IMAGE[..., 0]
    for mode in ("L", "LA"):
        image = Image.fromarray(plane)
        np.testing.assert_array_equal(decode(encoded(image.convert(mode)), "x"), np.repeat(plane[..., None], 3, 2))
    palette = Image.fromarray(IMAGE).quantize(16)
    np.testing.assert_array_equal(decode(encoded(palette), "x"), np.asarray(palette.convert("RGB")))
    bilevel = decode(encoded(Image.fromarray(plane > 127)), "x")
    np.testing.assert_array_equal(bilevel, np.repeat(np.where(plane > 127, 255, 0)[..., None], 3, 2))


def test_opaque_alpha_is_dropped_and_transparency_refused() -> None:
    alpha = np.full((13, 17, 1), 255, np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(np.dstack([IMAGE, alpha]))), "x"), IMAGE)
    alpha[3, 4] = 254
    message = refusal(lambda: decode(encoded(Image.fromarray(np.dstack([IMAGE, alpha]))), "a.png"))
    assert "a.png" in message
    assert "alpha down to 254" in message
    key = tuple(int(v) for v in IMAGE[0, 0])
    assert "transparency" in refusal(lambda: decode(encoded(Image.fromarray(IMAGE), transparency=key), "k.png"))
    palette = Image.fromarray(IMAGE).quantize(16)
    assert "transparency" in refusal(lambda: decode(encoded(palette, transparency=0), "p.png"))


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 4)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_refused(shape: tuple[int, ...], suffix: str) -> None:
    data = cv2_encoded(RNG.integers(0, 65536, shape, np.uint16), suffix)
    message = refusal(lambda: decode(data, f"deep{suffix}"))
    assert "16 bits per channel" in message
    assert "-depth 8" in message


def test_float_tiff_and_cmyk_and_gif_are_refused() -> None:
    assert "32 bits" in refusal(lambda: decode(cv2_encoded(RNG.random((5, 5), np.float32), ".tiff"), "f.tiff"))
    assert "f.tiff" in refusal(lambda: decode(cv2_encoded(RNG.random((5, 5, 3), np.float32), ".tiff"), "f.tiff"))
    assert "CMYK" in refusal(lambda: decode(encoded(Image.fromarray(IMAGE).convert("CMYK"), "JPEG"), "c.jpg"))
    assert "found GIF" in refusal(lambda: decode(encoded(Image.fromarray(IMAGE), "GIF"), "g.png"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(kind: str) -> None:
    frames = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert "2 frames or pages" in refusal(lambda: decode(data, "film"))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, IMAGE), (2, IMAGE[:, ::-1]), (3, IMAGE[::-1, ::-1]), (6, np.rot90(IMAGE, -1)), (8, np.rot90(IMAGE))],
)
def test_exif_orientation_is_applied(orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(IMAGE), exif=exif), "x"), upright)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8001, 10_000, 60_000])
def test_bombs_are_refused_before_unpacking(side: int) -> None:
    message = refusal(lambda: decode(png_header(side, side), "bomb.png"))
    assert str(MAX_PIXELS) in message
    assert "scale it down" in message


def test_empty_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    assert "found an empty file" in refusal(lambda: decode(b"", "e.png"))
    assert "e.png" in refusal(lambda: decode(b"", "e.png"))
    assert "<!doctyp" in refusal(lambda: decode(b"<!doctype html>\n<p>", "page.jpg"))
    assert "absent.png" in refusal(lambda: decode_file(tmp_path / "absent.png"))
    assert "cannot be read" in refusal(lambda: decode_file(tmp_path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pillow's remarks on damaged metadata
def test_damaged_files_never_raise_anything_else(kind: str) -> None:
    data = encoded(Image.fromarray(np.tile(IMAGE, (3, 3, 1))), kind)
    for share in (0.1, 0.3, 0.6, 0.9):
        message = refusal(lambda share=share: decode(data[: int(len(data) * share)], "cut"))
        assert message.startswith("cut: expected")
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        try:
            actual = decode(bytes(broken), "broken")
        except ImageError:
            continue
        assert actual.dtype == np.uint8
        assert actual.shape[2] == 3


# folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "c.bmp", "sub/d.png", ".hidden.png"):
        (folder / name).write_bytes(encoded(Image.fromarray(IMAGE), "BMP" if name.endswith("bmp") else "PNG"))
    (folder / "notes.txt").write_text("not an image")
    return folder


def with_csv(folder: Path, text: str) -> FolderImages:
    (folder / "mos.csv").write_text(text, encoding="utf-8")
    return FolderImages(path=str(folder), csv=str(folder / "mos.csv"))


def test_folder_lists_images_by_name(photos: Path) -> None:
    images = FolderImages(path=str(photos))
    items = images.items()
    assert [(i.id, i.cluster, i.mos) for i in items] == [(n, n, None) for n in ("a.PNG", "b.png", "c.bmp")]
    for item in items:
        np.testing.assert_array_equal(images.read(item), IMAGE)


def test_folder_with_scores_and_clusters(photos: Path) -> None:
    images = with_csv(photos, "\ufeffimage,mos,cluster,extra\nc.bmp,71.5,lake,1\nb.png,3e1,,2\n")
    assert [(i.id, i.cluster, i.mos) for i in images.items()] == [("b.png", "b.png", 30.0), ("c.bmp", "lake", 71.5)]


def test_folder_one_bad_file_is_one_error(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"\x89PNG")
    images = FolderImages(path=str(photos))
    outcomes = {}
    for item in images.items():
        try:
            outcomes[item.id] = images.read(item).shape
        except ImageError as error:
            outcomes[item.id] = str(error)
    assert [k for k, v in outcomes.items() if isinstance(v, str)] == ["bad.png"]
    assert str(photos / "bad.png") in outcomes["bad.png"]


def test_folder_that_is_not_there_or_empty(photos: Path) -> None:
    message = refusal(FolderImages(path=str(photos.parent / "photo")).items)
    assert "nothing there" in message
    assert "nearest: 'photos'" in message
    assert "found a file" in refusal(FolderImages(path=str(photos / "a.PNG")).items)
    assert "nothing there" in refusal(FolderImages(path=str(photos / "x" / "y")).items)
    (photos.parent / "empty").mkdir()
    assert "subfolders are not searched" in refusal(FolderImages(path=str(photos.parent / "empty")).items)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found an empty file"),
        ("image,mos\n", "found no rows"),
        ("image,score\na.PNG,1\n", "add or rename: mos"),
        ("images,mos\na.PNG,1\n", "nearest: 'images'"),
        ("image;mos\na.PNG;1\n", "'image;mos'"),
        ("image,mos\na.PNG,1\nbb.png,2\n", "row 2: expected an image in the folder, found 'bb.png'; nearest: 'b.png'"),
        ("image,mos\nsub/d.png,1\n", "found 'sub/d.png'"),
        ("image,mos\na.PNG,nan\n", "expected a finite mos for 'a.PNG', found 'nan'"),
        ("image,mos\na.PNG,inf\n", "found 'inf'"),
        ("image,mos\na.PNG,\n", "found ''"),
        ("image,mos\na.PNG\n", "found ''"),
        ("image,mos\na.PNG,good\n", "found 'good'"),
        ("image,mos,cluster\na.PNG,1," + "x" * 200_000, "found something else (field larger than"),
        ("image,mos\na.PNG,1\na.PNG,2\n", "found 'a.PNG' again"),
    ],
)
def test_folder_names_what_is_wrong_with_its_csv(photos: Path, text: str, expected: str) -> None:
    message = refusal(with_csv(photos, text).items)
    assert expected in message
    assert "mos.csv" in message


def test_folder_csv_that_cannot_be_read(photos: Path) -> None:
    images = with_csv(photos, "image,mos\n")
    message = refusal(FolderImages(path=str(photos), csv=str(photos / "mos2.csv")).items)
    assert "No such file" in message
    assert "nearest: 'mos.csv'" in message
    (photos / "mos.csv").write_bytes(b"image,mos\n\xff\xfe,1\n")
    assert "save it as UTF-8" in refusal(images.items)


def test_a_folder_keeps_the_order_of_its_table_where_asked(photos: Path) -> None:
    (photos / "mos.csv").write_text("image,mos\nb.png,1\na.PNG,2\n")
    table: dict[str, Any] = {"path": str(photos), "csv": str(photos / "mos.csv")}
    assert [item.id for item in FolderImages(**table).items()] == ["a.PNG", "b.png"]
    assert [item.id for item in FolderImages(**table, order="table").items()] == ["b.png", "a.PNG"]
    refused: list[dict[str, Any]] = [{"order": "mos"}, {"order": "table", "csv": None}]
    for wrong in refused:
        with pytest.raises(SpecError, match="expected order 'name', or 'table' with a csv"):
            FolderImages(**(table | wrong))


def test_folder_csv_with_a_short_row_beside_split(photos: Path) -> None:
    (photos / "mos.csv").write_text("image,mos,split\na.PNG\nb.png,1,val\n")
    images = FolderImages(path=str(photos), csv=str(photos / "mos.csv"), split="train")
    assert "expected rows with split 'train', found none" in refusal(images.items)


@pytest.mark.parametrize("place", ["x" * 300, "~nobody/x", "a\0b", "\udcff"], ids=["long", "user", "null", "not UTF-8"])
def test_folder_with_a_name_that_no_folder_can_have(place: str) -> None:
    assert "found nothing there" in refusal(FolderImages(path=place).items)


def test_a_file_name_that_is_not_utf8_is_no_id(photos: Path) -> None:
    (photos / "a.PNG").rename(photos / "\udcff.png")
    assert "expected UTF-8 text as its id, found '\\udcff.png'; rename it" in refusal(
        FolderImages(path=str(photos)).items
    )


def test_a_file_that_never_ends_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqarena.images.decode.MAX_BYTES", 1_000_000)
    assert "found more than 1 MB" in refusal(lambda: decode_file(Path("/dev/zero")))
