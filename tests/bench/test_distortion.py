"""Distortion numbers against closed forms and an SSIM written a second way (scipy, float64)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import convolve2d

from iqarena.images.degrade import degrade
from iqarena.images.perception import grey, jnd_map
from iqarena.images.sets.pocket import PocketImages
from iqarena.metrics.distortion import Reference, distortion

IMAGES = PocketImages()
KEYS = {"linf", "l2", "psnr", "ssim", "changed", "above_jnd"}


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004 as printed: an explicit 11×11 window, windows inside the image, two-pass moments."""
    at = np.arange(-5, 6)
    window = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(plane: np.ndarray) -> np.ndarray:
        return convolve2d(plane, window, mode="valid")

    x, y = grey(one).astype(float), grey(other).astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))


@pytest.mark.parametrize("name", ["coffee", "hills+dark40", "sunset+jpeg5"])
@pytest.mark.parametrize(
    ("kind", "strength"), [("blur", 1.0), ("noise", 5.0), ("noise", 60.0), ("jpeg", 90.0), ("dark", 0.5)]
)
def test_ssim_equals_the_slow_one(name: str, kind: str, strength: float) -> None:
    item = next(i for i in IMAGES.items() if i.id == name)
    clean = IMAGES.read(item)[:200, :259]
    other = degrade(clean, kind, strength)
    assert distortion(clean, other)["ssim"] == pytest.approx(slow_ssim(clean, other), abs=1e-5)  # float32


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_ssim_of_flat_images_is_the_luminance_term(level: int) -> None:
    clean, other = np.full((20, 30, 3), level, np.uint8), np.full((20, 30, 3), 100, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * level * 100 + c1) / (level**2 + 100**2 + c1)
    assert distortion(clean, other)["ssim"] == pytest.approx(expected, abs=1e-5)


def test_equal_images() -> None:
    clean = IMAGES.read(IMAGES.items()[0])
    same = {"linf": 0, "l2": 0, "psnr": math.inf, "ssim": 1, "changed": 0, "above_jnd": 0}
    assert distortion(clean, clean.copy()) == pytest.approx(same, abs=1e-7)


def test_known_change_of_known_pixels() -> None:
    clean = np.full((20, 25, 3), 127, np.uint8)  # JND is 3 everywhere
    other = clean.copy()
    other[0, :10, 1] += 3  # ten pixels at the JND, which is not above it
    other[1, :5, 0] -= 4  # five pixels above it
    actual = distortion(clean, other)
    squares = (10 * 9 + 5 * 16) / 255**2
    assert actual["linf"] == pytest.approx(4 / 255)
    assert actual["l2"] == pytest.approx(math.sqrt(squares))
    assert actual["psnr"] == pytest.approx(10 * math.log10(20 * 25 * 3 / squares))
    assert actual["changed"] == 15 / 500
    assert actual["above_jnd"] == 5 / 500


def test_equals_numpy_on_a_noisy_image() -> None:
    clean = IMAGES.read(IMAGES.items()[2])
    other = degrade(clean, "noise", 9.0, seed=3)
    change = (other.astype(float) - clean) / 255
    largest = np.abs(other.astype(int) - clean).max(axis=2)
    actual = distortion(clean, other)
    assert actual.keys() == KEYS
    assert all(type(value) is float for value in actual.values())
    assert actual["linf"] == pytest.approx(np.abs(change).max())
    assert actual["l2"] == pytest.approx(np.linalg.norm(change))
    assert actual["psnr"] == pytest.approx(-10 * math.log10(np.mean(change**2)))
    assert actual["changed"] == pytest.approx(np.mean(largest > 0))
    assert actual["above_jnd"] == pytest.approx(np.mean(largest > jnd_map(clean)))
    assert 0 < actual["above_jnd"] < 1


def test_precomputed_reference_changes_nothing() -> None:
    clean = IMAGES.read(IMAGES.items()[4])
    other = degrade(clean, "jpeg", 80.0)
    assert distortion(Reference.of(clean), other) == distortion(clean, other)


def test_small_images_have_no_ssim() -> None:
    tiny = np.zeros((10, 40, 3), np.uint8)
    actual = distortion(tiny, tiny + np.uint8(1))
    assert math.isnan(actual["ssim"])
    assert actual["changed"] == 1
    least = np.zeros((11, 11, 3), np.uint8)
    assert distortion(least, least)["ssim"] == pytest.approx(1)


def test_rejects_another_shape_or_type() -> None:
    clean = np.zeros((20, 20, 3), np.uint8)
    for wrong in (np.zeros((20, 21, 3), np.uint8), np.zeros((20, 20, 3), np.float32)):
        with pytest.raises(ValueError, match="like the clean image"):
            distortion(clean, wrong)
