"""Published databases in tiny copies: what is read, where it is looked for, and every way a copy can be wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import cv2
import fakesets
import numpy as np
import pytest
from fakesets import FAKES, refusal

from iqarena.api import ImageItem
from iqarena.errors import SpecError
from iqarena.images import decode
from iqarena.images.decode import centre
from iqarena.images.sets.database import Database
from iqarena.images.sets.folder import FolderImages
from iqarena.registry.tables import build, names, plugin_class
from iqarena.suite.plan import image_set

# what each fake holds: (id, cluster, mos), in the table's order
EXPECTED = {
    "biq2021": [("ss02 (9).jpg", "ss02 (9).jpg", 0.5)],
    "clive": [(f"{i}.bmp", f"{i}.bmp", 14.0 + i) for i in range(3, 7)],
    "csiq": [
        ("awgn/1600.AWGN.1.png", "1600", 0.9375),
        ("jpeg2000/1600.jpeg2000.5.png", "1600", 0.25),
        ("contrast/trolley.contrast.2.png", "trolley", 0.75),
    ],
    "kadid10k": [
        (f"I0{r}_01_0{level}.png", f"I0{r}.png", 5.0 - level) for r in (1, 2) for level in (1, 2)
    ],
    "koniq10k": [(f"{i}.jpg", f"{i}.jpg", 50.5 + i) for i in (1, 3, 5)],
    "spaq": [("00001.jpg", "00001.jpg", 33.5), ("00002.jpg", "00002.jpg", 70.0)],
    "tid2013": [("i01_01_1.bmp", "i01", 5.51429), ("i01_01_2.bmp", "i01", 5.56757), ("i25_24_5.bmp", "i25", 4.94444)],
}  # fmt: skip


def built(name: str, root: Path, **parameters: Any) -> Database:
    return cast(Database, cast("type[Database]", plugin_class("imageset", name))(path=str(root), **parameters))


def facts(items: list[ImageItem]) -> list[tuple[str, str, float | None]]:
    return [(item.id, item.cluster, item.mos) for item in items]


@pytest.fixture(params=sorted(FAKES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(name: str, tmp_path: Path) -> Path:
    FAKES[name](tmp_path / name)
    return tmp_path / name


def copy(name: str, tmp_path: Path) -> Path:
    FAKES[name](tmp_path / name)
    return tmp_path / name


# what is read


def test_every_database_has_a_fake() -> None:
    classes = [plugin_class("imageset", name) for name in names("imageset")]
    assert {cls.name for cls in classes if issubclass(cls, Database)} == set(FAKES) == set(EXPECTED)


def test_every_image_is_stamped_by_its_own_file(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SETTLING", 0)
    images = built(name, root)
    stamps = [images.stamp(item) for item in images.items()]
    assert len({"", *stamps}) == 1 + len(stamps)


def test_items_are_those_of_the_table_in_its_order(name: str, root: Path) -> None:
    images = built(name, root)
    assert facts(images.items()) == EXPECTED[name]
    for item in images.items():
        image = images.read(item)
        assert image.dtype == np.uint8
        actual = cv2.imread(str(images.root / images.file(item.id)))
        assert actual is not None
        np.testing.assert_array_equal(image, actual[..., ::-1])


def test_a_folder_around_the_copy_is_fine(name: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "around").mkdir()
    shutil.move(root, tmp_path / "around" / "as-it-unpacks")
    (tmp_path / "around" / "__MACOSX").mkdir()
    assert facts(built(name, tmp_path / "around").items()) == EXPECTED[name]


def test_a_copy_is_found_by_name(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQARENA_DATA", str(root.parent))
    images = build("imageset", name)
    assert isinstance(images, Database)
    assert facts(images.items()) == EXPECTED[name]
    assert repr(images).startswith(f"{name}(path=none, "), "where a copy lies is no part of what it is"


def test_without_the_variable_data_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IQARENA_DATA", raising=False)
    monkeypatch.setenv("IQARENA_CACHE", str(tmp_path / "cache"))
    assert cast(Database, build("imageset", "clive")).folder == tmp_path / "cache" / "data" / "clive"


def test_clive_leaves_out_the_seven_training_images(tmp_path: Path) -> None:
    root = copy("clive", tmp_path)
    training = built("clive", root, split="training")
    assert facts(training.items()) == [(f"t{i}.bmp", f"t{i}.bmp", 9.0 + i) for i in range(1, 8)]
    assert training.read(training.items()[6]).shape == (32, 40, 3)
    shutil.rmtree(root / "Images" / "trainingImages")
    assert len(built("clive", root).items()) == 4, "they are not needed for the others"


def test_clive_takes_either_orientation_of_the_mat_vectors(tmp_path: Path) -> None:
    root = copy("clive", tmp_path)
    cells = np.empty((1, 11), dtype=object)
    cells[0] = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(3, 7)]
    fakesets.write_mat(root / "Data" / "AllImages_release.mat", cells)
    fakesets.write_mat(root / "Data" / "AllMOS_release.mat", 10.0 + np.arange(11)[:, None])
    assert facts(built("clive", root).items()) == EXPECTED["clive"]


@pytest.mark.parametrize(("split", "ids"), [("training", [0, 4]), ("validation", [2]), ("all", [0, 1, 2, 3, 4, 5])])
def test_koniq_splits(tmp_path: Path, split: str, ids: list[int]) -> None:
    images = built("koniq10k", copy("koniq10k", tmp_path), split=split)
    assert [item.id for item in images.items()] == [f"{i}.jpg" for i in ids]


def test_koniq_in_the_larger_size(tmp_path: Path) -> None:
    root = copy("koniq10k", tmp_path)
    assert "1024x768/1.jpg" in refusal(built("koniq10k", root, width=1024).items)
    (root / "512x384").rename(root / "1024x768")
    larger = built("koniq10k", root, width=1024)
    items = larger.items()
    assert len(items) == 3
    assert "1.jpg: expected 1024×768 pixels as published, found " in refusal(lambda: larger.read(items[0]))


def test_biq_splits_and_both_names_of_its_tables(tmp_path: Path) -> None:
    root = copy("biq2021", tmp_path)
    everything = [("ss01 (2).jpg", 0.25), ("ss03 (1).jpg", 0.75), ("ss02 (9).jpg", 0.5)]
    assert [(i.id, i.mos) for i in built("biq2021", root, split="all").items()] == everything
    (root / "Train (Images and MOS).csv").rename(root / "Train.csv")
    assert [(i.id, i.mos) for i in built("biq2021", root, split="train").items()] == everything[:2]


# crops


def test_a_crop_is_the_middle(name: str, root: Path) -> None:
    full, cut = built(name, root), built(name, root, crop=20)
    for item in full.items():
        image = full.read(item)
        top, left = (image.shape[0] - 20) // 2, (image.shape[1] - 20) // 2
        np.testing.assert_array_equal(cut.read(item), image[top : top + 20, left : left + 20])
    assert "crop=20" in repr(cut)


def test_a_crop_of_the_whole_size_is_the_image_and_a_larger_one_is_refused() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    np.testing.assert_array_equal(centre(image, 9, "p"), image)
    assert centre(image, None, "p") is image
    assert "p: expected at least 10x10 pixels to crop, found 9x9" in refusal(lambda: centre(image, 10, "p"))


def test_folders_crop_and_split_too(tmp_path: Path) -> None:
    root = copy("biq2021", tmp_path)
    table = tmp_path / "mos.csv"
    table.write_text("image,mos,split\nss01 (2).jpg,1,val\nss03 (1).jpg,2,train\nabsent.jpg,3,train\n")
    images = FolderImages(path=str(root / "Images"), csv=str(table), split="val", crop=16)
    assert [(i.id, i.mos) for i in images.items()] == [("ss01 (2).jpg", 1.0)]
    assert images.read(images.items()[0]).shape == (16, 16, 3)
    other = FolderImages(path=str(root / "Images"), csv=str(table), split="test")
    assert "expected rows with split 'test', found none; valid: 'train', 'val'" in refusal(other.items)
    with pytest.raises(SpecError, match="expected a csv with a column split"):
        FolderImages(path=str(root), split="val")
    with pytest.raises(SpecError, match="expected crop ≥ 1"):
        FolderImages(path=str(root), crop=0)
    for wrong, words in (
        ({"order": "mos"}, "expected 'name' or 'table' for 'order', found 'mos'"),
        ({"crop": True}, "expected a whole number for 'crop', found True"),
    ):
        with pytest.raises(SpecError, match=words):
            image_set({"set": "folder", "path": str(root), **wrong})


# what is wrong with a copy


def test_a_set_that_is_not_there_says_where_it_is_had(name: str, tmp_path: Path) -> None:
    images = built(name, tmp_path / "nowhere")
    message = refusal(images.items)
    for words in ("nowhere: expected", "nothing there", images.home, "--images", f"iqarena fetch data {name}"):
        assert words in message
    (tmp_path / "nowhere").mkdir()
    assert "found a folder without it" in refusal(built(name, tmp_path / "nowhere").items)


def test_missing_images_are_counted_and_the_first_are_named(name: str, root: Path) -> None:
    images = built(name, root)
    paths = [images.file(item.id) for item in images.items()]
    for path in paths:
        (root / path).unlink()
    message = refusal(built(name, root).items)
    assert f"expected {len(paths)} images of {name}, {len(paths)} are missing: " in message
    assert message.count(".bmp") + message.count(".jpg") + message.count(".png") == min(3, len(paths))
    assert paths[0].lower() in message.lower()


def test_one_missing_image_is_enough(tmp_path: Path) -> None:
    root = copy("clive", tmp_path)
    (root / "Images" / "4.bmp").unlink()
    assert "expected 4 images of clive, 1 are missing: Images/4.bmp; unpack" in refusal(built("clive", root).items)


@pytest.mark.parametrize("file", ["AllImages_release.mat", "AllMOS_release.mat"])
def test_clive_without_one_of_its_tables(tmp_path: Path, file: str) -> None:
    root = copy("clive", tmp_path)
    (root / "Data" / file).unlink()
    message = refusal(built("clive", root).items)
    assert f"{file}: expected a MATLAB file with the variable {Path(file).stem}, found no such file" in message


@pytest.mark.parametrize("data", [b"", b"<!doctype html>", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_clive_with_a_damaged_table(tmp_path: Path, data: bytes) -> None:
    root = copy("clive", tmp_path)
    (root / "Data" / "AllMOS_release.mat").write_bytes(data)
    assert "AllMOS_release.mat: expected a MATLAB file" in refusal(built("clive", root).items)


def test_clive_with_tables_that_do_not_belong_together(tmp_path: Path) -> None:
    root = copy("clive", tmp_path)
    scores = root / "Data" / "AllMOS_release.mat"
    fakesets.write_mat(scores, np.ones((1, 10)))
    assert "expected as many scores as names, found 10 and 11" in refusal(built("clive", root).items)
    fakesets.write_mat(scores, np.ones((1, 11)), "MOS")
    assert "expected a MATLAB file with the variable AllMOS_release, found ['MOS']" in refusal(
        built("clive", root).items
    )
    fakesets.write_mat(scores, np.full((1, 11), np.nan))
    assert "expected a finite mos for '3.bmp', found nan" in refusal(built("clive", root).items)


def test_clive_with_nothing_but_training_images_says_so(tmp_path: Path) -> None:
    fakesets.clive(tmp_path, tests=0)
    assert "names none for split=test; valid: 'training'" in refusal(built("clive", tmp_path).items)
    assert len(built("clive", tmp_path, split="training").items()) == 7


TABLES = [
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS\n1.jpg,3\n", "add or rename: set"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "<html>no csv</html>", "add or rename: image_name, MOS, set"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS,set\n1.jpg,3,tset\n", "found 'tset'"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS,set\n1.jpg,x,test\n", "expected a finite mos"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS,set\n1.jpg,3,test\n1.jpg,3,test\n", "twice"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS,set\n1.jpg,3\n", "found None"),
    ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS,set\n0.jpg,3,training\n", "none for split=test"),
    ("biq2021", "Test.csv", "Image,MOS\na.jpg,1\n", "nearest: 'Image'; add or rename: Image Name"),
    ("kadid10k", "dmos.csv", "dist_img,dmos,var\na.png,1,1\n", "add or rename: ref_img"),
    ("kadid10k", "dmos.csv", "", "found an empty file"),
    ("tid2013", "mos_with_names.txt", "5.5 a.bmp\n\n", "line 2: expected a score and a file name, found ''"),
    ("tid2013", "mos_with_names.txt", "a.bmp 5.5\n", "expected a finite mos for '5.5', found 'a.bmp'"),
    ("spaq", "Annotations/MOS and Image attribute scores.xlsx", "<html>", "MOS, cannot be read"),
    ("csiq", "csiq.DMOS.xlsx", "", "expected an Excel workbook with the sheet all_by_image and the columns image"),
]


@pytest.mark.parametrize(("name", "file", "text", "expected"), TABLES)
def test_damaged_tables(name: str, file: str, text: str, expected: str, tmp_path: Path) -> None:
    root = copy(name, tmp_path)
    (root / file).write_text(text, encoding="utf-8")
    message = refusal(built(name, root).items)
    assert expected in message
    assert Path(file).name in message or "table" in message


def short_rows(sheet: Any, values_only: bool) -> list[tuple[Any, ...]]:
    """As of a workbook that does not state its dimensions, where a row ends at its last value."""
    return [("image", "dst_type", "dst_lev", "dmos"), ("1600", "noise", 1)]


def test_workbooks_with_other_sheets_or_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy("csiq", tmp_path)
    fakesets.write_sheet(root / "csiq.DMOS.xlsx", [("image", "dmos")], "all_by_image")
    assert "dst_type, dst_lev, dmos, found 'image', 'dmos'" in refusal(built("csiq", root).items)
    fakesets.write_sheet(root / "csiq.DMOS.xlsx", [("image",)], "other")
    assert "found the sheets other" in refusal(built("csiq", root).items)
    heading = ("image", "dst_type", "dst_lev", "dmos")
    fakesets.write_sheet(root / "csiq.DMOS.xlsx", [heading, ("1600", "nois", 1, 0.5)], "all_by_image")
    assert "unknown dst_type 'nois' of 1600; nearest: 'noise'" in refusal(built("csiq", root).items)
    fakesets.write_sheet(root / "csiq.DMOS.xlsx", [heading, ("1600", "noise", 1, None)], "all_by_image")
    assert "expected a finite mos for 'awgn/1600.AWGN.1.png', found ''" in refusal(built("csiq", root).items)
    monkeypatch.setattr("openpyxl.worksheet._read_only.ReadOnlyWorksheet.iter_rows", short_rows)
    assert "expected a finite mos for 'awgn/1600.AWGN.1.png', found ''" in refusal(built("csiq", root).items)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("clive(split=tset)", "clive: unknown split 'tset'; nearest: 'test'"),
        ("kadid10k(split=test)", "unknown split 'test'; valid: 'all'"),
        ("koniq10k(width=512, crop=0)", "expected crop ≥ 1 or none, found 0"),
        ("koniq10k(width=384)", "expected width 512 or 1024, found 384"),
        ("clive(croop=3)", "no parameter 'croop'; nearest: 'crop'"),
    ],
)
def test_parameters_that_are_wrong(spec: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        build("imageset", spec)
    assert expected in str(caught.value)


def test_real_copies(name: str) -> None:
    images = build("imageset", name)
    assert isinstance(images, Database)
    if "IQARENA_DATA" not in os.environ or not images.folder.exists():
        pytest.skip(f"no real copy in $IQARENA_DATA/{name}")
    items = images.items()
    assert len(items) == images.published
    assert images.read(items[0]).ndim == 3
