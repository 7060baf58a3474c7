"""Filters against slow references."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from iqarena.api import SpecError
from iqarena.api.streams import Streams
from iqarena.images.perception import edge_mask, jnd_map, saliency_map
from iqarena.registry.tables import build_filter
from iqarena.testing import images

SIZES = [(32, 40), (33, 47), (32, 41), (33, 40)]


def apply(spec: str, t: Tensor, x: Tensor, seed: int = 0) -> Tensor:
    return build_filter(spec)(t, x, Streams([str(i) for i in range(len(t))], "filter", seed))


def random_t(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


# ---- fourier_topk


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", [0.03, 0.25, 0.5, 0.9])
def test_fourier_topk_equals_the_full_transform(size: tuple[int, int], keep: float) -> None:
    """The strongest coefficients of numpy's full transform, in double precision."""
    t = random_t(size)
    out = apply(f"fourier_topk(keep={keep})", t, t).numpy().reshape(-1, *size)
    for plane, actual in zip(t.numpy().astype(float).reshape(-1, *size), out, strict=True):
        spectrum = np.fft.fft2(plane)
        energy = np.abs(spectrum) ** 2
        kept = np.abs(np.fft.fft2(actual.astype(float))) ** 2 > 1e-6 * energy
        # The share is that of the half spectrum, of which columns 0 and W/2 hold both members of their pairs.
        assert kept.mean() == pytest.approx(keep, abs=1 / min(size))
        # A conjugate pair that is split at the very threshold may lose half of its strength.
        threshold = np.sort(energy.ravel())[-int(kept.sum())]
        clear = np.abs(energy - threshold) > 1e-4 * threshold
        assert np.array_equal(kept[clear], energy[clear] >= threshold)
        expected = np.fft.ifft2(spectrum * (energy >= threshold))
        assert np.abs(expected.imag).max() < 1e-10, "the kept coefficients come in conjugate pairs"
        assert np.abs(actual - expected.real).max() < 2 * threshold**0.5 / plane.size + 1e-5
        # Parseval: no other choice of as many coefficients keeps more energy.
        best = np.sort(energy.ravel())[-int(kept.sum()) :].sum() / plane.size
        assert (actual.astype(float) ** 2).sum() == pytest.approx(best, abs=2 * threshold / plane.size, rel=1e-5)


def test_fourier_topk_keeps_everything_or_the_strongest_wave() -> None:
    t = random_t((32, 40))
    assert torch.equal(apply("fourier_topk(keep=1)", t, t), t)
    columns = torch.arange(40)
    wave = (2 * torch.pi * 5 * columns / 40).cos().expand(1, 3, 32, 40)
    noisy = wave + 0.01 * random_t((32, 40))[:1]
    actual = apply("fourier_topk(keep=0.0001)", noisy, noisy)
    assert torch.allclose(actual, wave, atol=0.01)
    assert (torch.fft.rfft2(actual).abs() > 1e-3).sum((2, 3)).tolist() == [[1, 1, 1]]
    assert torch.allclose(apply("fourier_topk(keep=0.3)", torch.zeros(1, 3, 16, 16), t[:1]), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("size", SIZES)
def test_fourier_topk_keeps_more_energy_the_more_it_keeps(size: tuple[int, int]) -> None:
    t = random_t(size)
    energies = [apply(f"fourier_topk(keep={keep})", t, t).square().sum((2, 3)) for keep in (0.05, 0.2, 0.5, 0.8, 1)]
    for less, more in pairwise(energies):
        assert (less < more).all()
    assert torch.allclose(energies[-1], t.square().sum((2, 3)))


# ---- jnd


@pytest.mark.parametrize("threshold", [5, 6, 10.5])
def test_jnd_is_the_map_against_the_threshold(threshold: float) -> None:
    pixels = images(range(3), (33, 47))
    t = torch.ones(3, 3, 33, 47)
    kept = apply(f"jnd(threshold={threshold})", t, pixels.float() / 255)
    for image, mask in zip(pixels, kept, strict=True):
        expected = jnd_map(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) >= threshold
        for channel in mask:
            assert np.array_equal(channel.numpy(), expected.astype(np.float32))
    assert 0 < kept.mean() < 1


def test_jnd_keeps_a_pixel_at_the_threshold() -> None:
    grey = torch.full((1, 3, 9, 9), 127 / 255)  # flat, so that only the luminance counts: 3 levels at 127
    assert torch.equal(apply("jnd(threshold=3)", grey, grey), grey)
    assert not apply("jnd(threshold=3.001)", grey, grey).any()


def test_jnd_without_a_threshold_is_no_filter() -> None:
    x, t = images(range(2)).float() / 255, random_t((32, 40))
    assert torch.equal(apply("jnd(threshold=0)", t, x), t)
    assert torch.equal(apply("none", t, x), t)


# ---- random


def test_random_keeps_its_share_of_pixels_in_all_channels() -> None:
    t = torch.ones(4, 3, 64, 64)
    kept = apply("random(keep=0.3)", t, t)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(kept[:, :1].expand_as(kept), kept), "one mask for the three channels"
    shares = kept[:, 0].mean((1, 2))
    assert (shares - 0.3).abs().max() < 0.03, "four deviations of 4096 draws"
    assert torch.equal(apply("random(keep=1)", t, t), t)


def test_random_does_not_depend_on_the_attack_that_uses_it() -> None:
    """So that a control meets the same mask as the attack it stands beside."""
    t = torch.ones(1, 3, 16, 16)
    masks = [build_filter("random")(t, t, Streams(["a"], purpose)) for purpose in ("fgsm", "noise(mask=random)")]
    assert torch.equal(masks[0], masks[1])


# ---- jnd_soft, saliency, edges


@pytest.mark.parametrize(
    ("spec", "weight"),
    [
        ("jnd_soft", lambda image: np.minimum(1, jnd_map(image) / 12)),
        ("jnd_soft(threshold=4.5)", lambda image: np.minimum(1, jnd_map(image) / 4.5)),
        ("saliency", lambda image: saliency_map(image) > 0.225),
        ("saliency(threshold=0.5)", lambda image: saliency_map(image) > 0.5),
        ("edges", edge_mask),
    ],
)
def test_a_map_weighs_all_channels_alike(spec: str, weight: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels, t = images(range(2), (33, 47)), random_t((33, 47))
    actual = apply(spec, t, pixels.float() / 255)
    for image, before, after in zip(pixels, t, actual, strict=True):
        expected = before * torch.from_numpy(weight(image.permute(1, 2, 0).numpy()).astype(np.float32))
        assert torch.allclose(after, expected, rtol=1e-6)
    assert 0.02 < (actual != 0).double().mean() <= 1


def test_soft_jnd_grows_to_all_of_it_and_no_further() -> None:
    t, x = torch.ones(1, 3, 33, 47), images([3], (33, 47)).float() / 255
    soft = [apply(f"jnd_soft(threshold={threshold})", t, x) for threshold in (24, 12, 6, 0.001)]
    assert all((less <= more).all() for less, more in pairwise(soft))
    assert torch.equal(soft[-1], t)
    assert torch.equal(soft[2] == 1, apply("jnd(threshold=6)", t, x) == 1), "the binary mask is where it is full"


def test_a_flat_image_has_no_edges() -> None:
    flat = torch.full((1, 3, 20, 20), 0.5)
    assert not apply("edges", torch.ones_like(flat), flat).any()


# ---- low and high frequencies


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cutoff", [0.1, 0.25, 0.6])
def test_low_and_high_frequencies_by_the_full_transform(size: tuple[int, int], cutoff: float) -> None:
    t = random_t(size)
    low, high = (apply(f"fourier_{which}pass(cutoff={cutoff})", t, t) for which in ("low", "high"))
    assert torch.allclose(low + high, t, atol=1e-6)
    radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1]))
    expected = np.fft.ifft2(np.fft.fft2(t.numpy().astype(float)) * (radius <= np.float32(cutoff)))
    assert np.abs(expected.imag).max() < 1e-10
    assert np.abs(low.numpy() - expected.real).max() < 1e-5


def test_a_wave_is_on_one_side_of_the_cutoff() -> None:
    wave = (2 * torch.pi * 5 * torch.arange(40) / 40).cos().expand(1, 3, 32, 40)  # 0.125 cycles a pixel
    for cutoff, below in ((0.13, True), (0.12, False)):
        low, high = (apply(f"fourier_{which}pass(cutoff={cutoff})", wave, wave) for which in ("low", "high"))
        assert torch.allclose(low if below else high, wave, atol=1e-5)
        assert torch.allclose(high if below else low, torch.zeros_like(wave), atol=1e-5)
    level = wave + 0.7
    assert torch.allclose(apply("fourier_highpass(cutoff=0)", level, level), wave, atol=1e-5)
    assert torch.allclose(apply("fourier_lowpass(cutoff=0.75)", level, level), level, atol=1e-5)


# ---- magnitude_topk


@pytest.mark.parametrize("keep", [0.01, 0.3, 1])
def test_magnitude_topk_keeps_the_strongest_pixels(keep: float) -> None:
    t = random_t((33, 47))
    actual = apply(f"magnitude_topk(keep={keep})", t, t)
    for before, after in zip(t, actual, strict=True):
        strength = before.norm(dim=0).flatten()
        kept = after.abs().sum(0).flatten() > 0
        assert int(kept.sum()) == round(keep * 33 * 47)
        assert keep == 1 or strength[kept].min() >= strength[~kept].max()
        assert torch.equal(after.flatten(1)[:, kept], before.flatten(1)[:, kept])
    signs = t.sign()
    assert torch.equal(apply("magnitude_topk(keep=0.1)", signs, t), signs), "ties stay"


@pytest.mark.parametrize(
    "spec",
    [
        "magnitude_topk(keep=0)",
        "magnitude_topk(keep=1.1)",
        "random(keep=0)",
        "fourier_topk(keep=-0.5)",
        "fourier_topk(keep=2)",
        "fourier_lowpass(cutoff=0)",
        "fourier_lowpass(cutoff=0.8)",
        "fourier_highpass(cutoff=-0.1)",
        "saliency(threshold=1)",
        "jnd_soft(threshold=0)",
        "jnd|magnitude_topk(keep=0)",
    ],
)
def test_a_share_or_threshold_out_of_range_is_one_line(spec: str) -> None:
    with pytest.raises(SpecError, match=r"^\w+: expected (keep|cutoff|threshold) .*, found [-\d.]+$"):
        build_filter(spec)
