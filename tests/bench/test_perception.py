"""The JND map against a pixel-by-pixel reading of the published formula."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from iqarena.images.perception import edge_mask, grey, jnd_map, saliency_map
from iqarena.images.sets.pocket import PocketImages


def slow_jnd(image: np.ndarray) -> np.ndarray:
    """One pixel after the other, in Python numbers; only luma and Canny map are shared with the fast version."""
    level = grey(image).astype(int)
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
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.abs(grey(image) - image @ np.array([0.299, 0.587, 0.114])).max() < 0.51  # fixed point in OpenCV


@pytest.mark.parametrize("index", [0, 7, 20])
def test_equals_the_slow_formula_on_images(index: int) -> None:
    images = PocketImages()
    image = images.read(images.items()[index])[100:163, 200:281]
    actual = jnd_map(image)
    assert actual.dtype == np.float32
    assert actual.shape == image.shape[:2]
    assert cv2.Canny(grey(image), 50, 150).any()  # else the wrap-around is not exercised
    np.testing.assert_allclose(actual, slow_jnd(image), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("level", "expected"), [(0, 20.0), (127, 3.0), (255, 6.0)])
def test_flat_image_has_luminance_adaptation_only(level: int, expected: float) -> None:
    np.testing.assert_allclose(jnd_map(np.full((9, 9, 3), level, np.uint8)), expected, rtol=1e-6)


def test_texture_wraps_at_edges() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    image[:, 10:] = 200
    edge = cv2.Canny(grey(image), 50, 150)[10]
    column = int(np.flatnonzero(edge)[0])
    level = int(image[10, column, 0])
    wrapped = (level - 255) % 256
    assert wrapped == level + 1 == (201 if column >= 10 else 1)
    adaptation = 20.0 if level == 0 else 3 * 73 / 128 + 3
    masking = 0.117 * 255 + 0.351 * (max(200, wrapped) - 0)
    expected = adaptation + masking - 0.3 * min(adaptation, masking)
    assert jnd_map(image)[10, column] == pytest.approx(expected, rel=1e-5)


def test_rejects_what_is_not_an_eight_bit_rgb_image() -> None:
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((3, 5, 5), np.uint8)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            jnd_map(wrong)


def test_accepts_views_and_leaves_them_alone() -> None:
    rng = np.random.default_rng(0)
    full = rng.integers(0, 256, (3, 30, 40), np.uint8)
    before = full.copy()
    view = full.transpose(1, 2, 0)
    np.testing.assert_array_equal(jnd_map(view), jnd_map(np.ascontiguousarray(view)))
    np.testing.assert_array_equal(full, before)


def test_what_stands_out_is_salient() -> None:
    image = np.random.default_rng(0).integers(118, 138, (96, 128, 3)).astype(np.uint8)
    image[40:56, 90:106] = [250, 40, 40]
    actual = saliency_map(image)
    assert actual.shape == (96, 128)
    assert actual.min() == 0
    assert actual.max() == 1
    top, left = np.unravel_index(actual.argmax(), actual.shape)
    assert 36 <= top < 60
    assert 86 <= left < 110


def test_nothing_is_salient_in_a_flat_image() -> None:
    flat = np.full((70, 80, 3), 90, np.uint8)
    assert not edge_mask(flat).any()
    assert np.isfinite(saliency_map(flat)).all()


def test_edges_are_one_pixel_wider_than_the_canny_map() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    image[:, 10:] = 200
    thin = cv2.Canny(grey(image), 50, 150) > 0
    actual = edge_mask(image)
    assert actual[10].sum() == thin[10].sum() + 2
    assert actual[thin].all()
