"""The embedded set of 52 pocket: complete, licensed, as its table says."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakesets import refusal
from PIL import Image

from iqarena.images.decode import decode
from iqarena.images.sets import pocket
from iqarena.images.sets.pocket import FOLDER, PocketImages
from iqarena.registry.tables import build, names
from iqarena.tools.embed import LICENCES, attribution, file_name, read_rows

ITEMS, reference_image = PocketImages().items(), PocketImages().read_reference


def jpeg(image: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_pocket_has_one_image_of_each_of_52_reference_images() -> None:
    assert len(ITEMS) == 52
    assert len({i.id for i in ITEMS}) == len({i.cluster for i in ITEMS}) == 52
    assert all(i.mos is None for i in ITEMS)
    assert sum("+" not in i.id for i in ITEMS) == 26
    assert repr(build("imageset", "pocket")) == "pocket(crop=none)"
    assert {"folder", "pocket"} <= set(names("imageset"))


@pytest.mark.parametrize("limit", [4, 8, 16, 24])
def test_the_first_images_of_pocket_span_the_quality_scale_too(limit: int) -> None:
    degradations = [i.id.partition("+")[2].rstrip("0123456789") for i in ITEMS[:limit]]
    assert degradations.count("") == limit // 2
    assert len(set(degradations)) >= min(limit // 2 + 1, 5)  # undegraded and up to all four kinds


def test_pocket_reads_the_same_bytes_each_time() -> None:
    digests = set()
    for item in ITEMS:
        image = PocketImages().read(item)
        assert image.shape == (288, 384, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, PocketImages().read(item))
        digests.add(hashlib.sha256(image.tobytes()).hexdigest())
    assert len(digests) == 52


def test_pocket_scenes_are_different_ones() -> None:
    small = [cv2.resize(reference_image(item), (16, 12), interpolation=cv2.INTER_AREA).mean(2) for item in ITEMS]
    alike = np.corrcoef([plane.ravel() for plane in small]) - np.eye(52)
    assert alike.max() < 0.9


def test_pocket_crops_the_middle() -> None:
    full, part = PocketImages().read(ITEMS[1]), PocketImages(crop=224).read(ITEMS[1])
    np.testing.assert_array_equal(part, full[32:256, 80:304])


def test_pocket_ids_tell_the_strength() -> None:
    named = {i.id: i for i in ITEMS}
    read = PocketImages().read
    np.testing.assert_array_equal(read(named["coffee"]), reference_image(named["coffee"]))
    blurred = cv2.GaussianBlur(reference_image(named["canyon+blur2"]), (0, 0), 2)
    np.testing.assert_array_equal(read(named["canyon+blur2"]), blurred)
    dogs = reference_image(named["dogs+noise30"])
    noise = read(named["dogs+noise30"]).astype(float) - dogs
    inside = (dogs > 120) & (dogs < 136)  # far from clipping
    assert np.std(noise[inside]) == pytest.approx(30, rel=0.03)
    dark = read(named["hills+dark40"]).astype(float)
    np.testing.assert_allclose(dark, reference_image(named["hills+dark40"]) * 0.6, atol=0.5001)
    bridge = named["bridge+jpeg10"]
    second = jpeg(reference_image(bridge), quality=10)  # another encoder, same quality
    assert np.abs(read(bridge).astype(float) - decode(second, "x")).mean() < 0.5


def test_pocket_list_is_complete_and_true() -> None:
    rows = read_rows()
    files = {path.name: path for path in FOLDER.glob("*.jpg")}
    assert sorted(map(file_name, rows)) == sorted(files)
    assert [row["id"] for row in rows] == [item.id for item in ITEMS]
    assert sum(path.stat().st_size for path in files.values()) < 10_000_000
    for row in rows:
        assert row["sha256"] == hashlib.sha256(files[file_name(row)].read_bytes()).hexdigest()
        assert row["licence"] in LICENCES
        assert all(row[key] for key in ("title", "author", "package", "version", "path", "source_sha256", "stated_in"))
        left, top, right, bottom = map(int, row["crop"].split())
        assert (right - left) * 3 == (bottom - top) * 4
        assert right - left >= 384, "enlarged"


def test_the_attribution_names_every_image() -> None:
    text = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert text == attribution(read_rows())
    for row in read_rows():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{file_name(row)}`"))
        assert all(row[key] in line for key in ("title", "author", "source", "package", "version", "stated_in"))
        assert text.rfind("\n## ", 0, text.index(line)) == text.index(f"\n## {row['licence']}\n")


def test_pocket_notices_a_changed_or_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coffee.jpg").write_bytes((FOLDER / "coffee.jpg").read_bytes() + b"\0")
    pocket._sha256s()  # the true list is remembered
    monkeypatch.setattr(pocket, "FOLDER", tmp_path)
    named = {i.id: i for i in ITEMS}
    assert "expected sha256" in refusal(lambda: PocketImages().read(named["coffee"]))
    assert "bridge.jpg" in refusal(lambda: PocketImages().read(named["bridge+jpeg10"]))
    stranger = type(ITEMS[0])(id="cofee", cluster="cofee")
    assert "'coffee'" in refusal(lambda: PocketImages().read(stranger))
