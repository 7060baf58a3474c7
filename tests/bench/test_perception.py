"""The JND map against a pixel-by-pixel reading of the published formula."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from iqarena.images.perception import edge_mask, grey, jnd_map, saliency_map
from iqarena.images.sets.pocket import PocketImages


def slow_jnd(picture: np.ndarray) -> np.ndarray:
    """One pixel after the other, in Python numbers; only luma and Canny map are shared with the fast version."""
    level = grey(picture).astype(int)
    edges = cv2.Canny(level.astype(np.uint8), 50, 150).astype(int)
    texture = (level - edges) % 256
    height, width = level.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            window = (slice(max(y - 2, 0), y + 3), slice(max(x - 2, 0), x + 3))
            v = int(level[y, x])
            adaptation = 17 * (1 - math.sqrt(v / 127)) + 3 if v <= 127 else 3 * (v - 127) / 128 + 3
            masking = 0.117 * np.ptp(edges[window]) + 0.351 * np.ptp(texture[window])
            out[y, x] = adaptation + masking - 0.3 * min(adaptation, masking)
    return out


def test_grey_is_the_rounded_luma() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.abs(grey(picture) - picture @ np.array([0.299, 0.587, 0.114])).max() < 0.51  # fixed point in OpenCV


@pytest.mark.parametrize("index", [0, 7, 20])
def test_equals_the_slow_formula_on_photographs(index: int) -> None:
    images = PocketImages()
    picture = images.read(images.items()[index])[100:163, 200:281]
    found = jnd_map(picture)
    assert found.dtype == np.float32
    assert found.shape == picture.shape[:2]
    assert cv2.Canny(grey(picture), 50, 150).any()  # else the wrap-around is not exercised
    np.testing.assert_allclose(found, slow_jnd(picture), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("level", "expected"), [(0, 20.0), (127, 3.0), (255, 6.0)])
def test_flat_picture_has_luminance_adaptation_only(level: int, expected: float) -> None:
    np.testing.assert_allclose(jnd_map(np.full((9, 9, 3), level, np.uint8)), expected, rtol=1e-6)


def test_texture_wraps_at_edges() -> None:
    picture = np.zeros((21, 21, 3), np.uint8)
    picture[:, 10:] = 200
    edge = cv2.Canny(grey(picture), 50, 150)[10]
    column = int(np.flatnonzero(edge)[0])
    level = int(picture[10, column, 0])
    wrapped = (level - 255) % 256
    assert wrapped == level + 1 == (201 if column >= 10 else 1)
    adaptation = 20.0 if level == 0 else 3 * 73 / 128 + 3
    masking = 0.117 * 255 + 0.351 * (max(200, wrapped) - 0)
    expected = adaptation + masking - 0.3 * min(adaptation, masking)
    assert jnd_map(picture)[10, column] == pytest.approx(expected, rel=1e-5)


def test_rejects_what_is_not_an_eight_bit_rgb_picture() -> None:
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((3, 5, 5), np.uint8)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            jnd_map(wrong)


def test_accepts_views_and_leaves_them_alone() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (3, 30, 40), np.uint8)
    before = whole.copy()
    view = whole.transpose(1, 2, 0)
    np.testing.assert_array_equal(jnd_map(view), jnd_map(np.ascontiguousarray(view)))
    np.testing.assert_array_equal(whole, before)


def test_what_stands_out_is_salient() -> None:
    picture = np.random.default_rng(0).integers(118, 138, (96, 128, 3)).astype(np.uint8)
    picture[40:56, 90:106] = [250, 40, 40]
    found = saliency_map(picture)
    assert found.shape == (96, 128)
    assert found.min() == 0
    assert found.max() == 1
    top, left = np.unravel_index(found.argmax(), found.shape)
    assert 36 <= top < 60
    assert 86 <= left < 110


def test_nothing_is_salient_in_a_flat_picture() -> None:
    flat = np.full((70, 80, 3), 90, np.uint8)
    assert not edge_mask(flat).any()
    assert np.isfinite(saliency_map(flat)).all()


def test_edges_are_one_pixel_wider_than_the_canny_map() -> None:
    picture = np.zeros((21, 21, 3), np.uint8)
    picture[:, 10:] = 200
    thin = cv2.Canny(grey(picture), 50, 150) > 0
    found = edge_mask(picture)
    assert found[10].sum() == thin[10].sum() + 2
    assert found[thin].all()
