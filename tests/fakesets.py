"""What tests of image sets share: tiny copies of the published databases in their true layouts, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
import scipy.io
from toyruns import paint

from iqarena.errors import ImageError

KONIQ_COLUMNS = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"


def refusal(call: Callable[[], object]) -> str:
    """The one line that ``call`` is refused with."""
    with pytest.raises(ImageError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def clive(root: Path, tests: int = 4) -> None:
    """Seven training images and ``tests`` others, MOS 10, 11, 12 …"""
    names = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(3, 3 + tests)]
    for i, name in enumerate(names):
        paint(_made(root / "Images" / ("trainingImages" if i < 7 else "") / name), i)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    write_mat(root / "Data" / "AllImages_release.mat", cells)
    write_mat(root / "Data" / "AllMOS_release.mat", 10.0 + np.arange(len(names))[None])
    write_mat(root / "Data" / "AllStdDev_release.mat", np.ones((1, len(names))))


def write_mat(path: Path, values: np.ndarray, variable: str | None = None) -> None:
    scipy.io.savemat(_made(path), {variable or path.stem: values})


def koniq10k(root: Path) -> None:
    """Three test images, two of training, one of validation; only the 512x384 folder."""
    parts = ["training", "test", "validation", "test", "training", "test"]
    rows = [f"{i}.jpg,0,0,0.5,0.5,0,100,{50 + i}.5,0.5,{part}" for i, part in enumerate(parts)]
    write(root / "koniq10k_distributions_sets.csv", "\n".join([KONIQ_COLUMNS, *rows]))
    for i in range(len(parts)):
        paint(_made(root / "512x384" / f"{i}.jpg"), i, (512, 384))


def biq2021(root: Path) -> None:
    write(root / "Train (Images and MOS).csv", "Image Name,MOS,,\nss01 (2).jpg,0.25,,\nss03 (1).jpg,0.75,,\n")
    write(root / "Test.csv", "Image Name,MOS\nss02 (9).jpg,0.5\n")
    for i, name in enumerate(("ss01 (2)", "ss03 (1)", "ss02 (9)")):
        paint(_made(root / "Images" / f"{name}.jpg"), i)


def kadid10k(root: Path) -> None:
    rows = [f"I{r:02}_01_0{level}.png,I{r:02}.png,{5 - level}.0,0.1" for r in (1, 2) for level in (1, 2)]
    write(root / "dmos.csv", "\n".join(["dist_img,ref_img,dmos,var", *rows]))
    for row in [*rows, "I01.png", "I02.png"]:
        paint(_made(root / "images" / row.partition(",")[0]), 0, (512, 384))


def tid2013(root: Path) -> None:
    """The table writes capitals where the files do not, and the other way round."""
    write(root / "mos_with_names.txt", "5.51429 I01_01_1.bmp\n5.56757 i01_01_2.bmp\n4.94444 I25_24_5.bmp\n")
    for i, name in enumerate(("i01_01_1.bmp", "I01_01_2.bmp", "I25_24_5.BMP")):
        paint(_made(root / "distorted_images" / name), i, (512, 384))


def spaq(root: Path) -> None:
    rows = [("Image name", "MOS", "Brightness"), ("00001.jpg", 33.5, 1.0), ("00002.jpg", 70, 1.0)]
    write_sheet(root / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    for name, size in (("00001.jpg", (40, 32)), ("00002.jpg", (32, 48))):
        paint(_made(root / "TestImage" / name), 0, size)


def csiq(root: Path) -> None:
    """As published: three empty columns and rows, a number as a name, a level of each way to write it."""
    heading = (None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
    rows = [
        (None, None, None, 1600, 1, "noise", 1, 0.06, 0.0625),
        (None, None, None, 1600, 3, "jpeg 2000", 5, 0.06, 0.75),
        (None, None, None, "trolley", 6, "contrast", 2, 0.06, 0.25),
        (None,) * 9,
    ]
    write_sheet(root / "csiq.DMOS.xlsx", [(), (), ("CSIQ",), heading, *rows], "all_by_image")
    for name in ("awgn/1600.AWGN.1", "jpeg2000/1600.jpeg2000.5", "contrast/trolley.contrast.2"):
        paint(_made(root / "dst_imgs" / f"{name}.png"), 0, (512, 512))


def write_sheet(path: Path, rows: list[tuple[Any, ...]], sheet: str = "Sheet1") -> None:
    book = openpyxl.Workbook()
    table = book.active
    assert table is not None
    table.title = sheet
    for row in rows:
        table.append(list(row))
    book.save(_made(path))


def write(path: Path, text: str) -> None:
    _made(path).write_text(text, encoding="utf-8")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


FAKES: dict[str, Callable[[Path], None]] = {
    make.__name__: make for make in (biq2021, clive, csiq, kadid10k, koniq10k, spaq, tid2013)
}
