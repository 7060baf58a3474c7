"""Purifications against other implementations, and where they change nothing; median smoothing and its bounds."""

from __future__ import annotations

import hashlib
import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.stats import beta, binom, norm
from torch import Tensor

from iqarena.api import Certified, Purification
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.errors import SpecError
from iqarena.registry.tables import build_defense, build_model
from iqarena.testing import images
from iqarena.testing.toys import CurvedNet, LinearNet
from iqarena_models.defenses.median_smoothing import MedianSmoothing
from iqarena_models.defenses.smoothed import lower_rank

SIZE = (40, 56)


def apply(spec: str, x: Tensor, ids: str = "p") -> Tensor:
    defense = build_defense(spec)
    assert isinstance(defense, Purification)
    return defense.apply(x, Streams([f"{ids}{i}" for i in range(len(x))], "test"))


@pytest.fixture
def pixels() -> Tensor:
    """Smooth images with some noise, uint8 ``(3, 3, H, W)``."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 5, 6, 3)).astype(np.uint8)
    smooth = np.stack([cv2.resize(c, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse]).astype(int)
    noisy = (smooth + rng.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(noisy).permute(0, 3, 1, 2).contiguous()


def uint8(x: Tensor) -> np.ndarray:
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_is_pillows_to_a_grey_level_and_opencvs_exactly(pixels: Tensor, quality: int) -> None:
    built = uint8(apply(f"jpeg(quality={quality})", pixels.float() / 255))
    for ours, image in zip(built, pixels.permute(0, 2, 3, 1).numpy(), strict=True):
        code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        assert (ours == cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]).all()  # pyright: ignore[reportOptionalSubscript]
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = np.asarray(Image.open(file).convert("RGB")).astype(int)
        assert np.abs(ours - theirs).max() <= 4
        assert np.abs(ours - theirs).mean() < 0.1


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_median_and_gaussian_are_scipys(size: int) -> None:
    x = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(0))
    median = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="nearest")
    assert (apply(f"median(size={size})", x).numpy() == median).all()
    radius = size // 2
    sigma = 0.3 * (radius - 1) + 0.8
    blurred = x.double().numpy()
    for axis in (2, 3):
        blurred = ndimage.gaussian_filter1d(blurred, sigma, axis=axis, mode="nearest", radius=radius)
    assert np.abs(apply(f"gaussian(size={size})", x).numpy() - blurred).max() < 1e-6
    sharp = (2 * x.numpy() - blurred).clip(0, 1)
    assert np.abs(apply(f"unsharp(size={size})", x).numpy() - sharp).max() < 1e-6


def test_gaussian_is_opencvs(pixels: Tensor) -> None:
    x = pixels[:1].float() / 255
    theirs = cv2.GaussianBlur(x[0].permute(1, 2, 0).numpy(), (5, 5), 1.1, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(apply("gaussian(size=5)", x)[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-6


@pytest.mark.parametrize(
    "spec",
    ["bit_depth(bits=8)", "gaussian(size=1)", "median(size=1)", "resize(factor=1)", "unsharp(amount=0)",
     "unsharp(size=1)", "flip(p=0)", "random_crop(keep=1)"],
)  # fmt: skip
def test_what_changes_nothing_changes_nothing(spec: str) -> None:
    x = images(size=SIZE).float() / 255
    assert torch.equal(uint8_tensor(apply(spec, x)), uint8_tensor(x))
    assert torch.allclose(apply(spec, x), x, atol=1e-7)


def uint8_tensor(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def test_bits_and_colours_are_counted(pixels: Tensor) -> None:
    x = pixels.float() / 255
    for bits in (1, 3, 4):
        levels = torch.unique(apply(f"bit_depth(bits={bits})", x))
        assert torch.equal(levels, torch.arange(2**bits) / (2**bits - 1))
    for colors in (2, 16):
        for one in uint8(apply(f"color_quantization(colors={colors})", x)):
            assert 1 < len(np.unique(one.reshape(-1, 3), axis=0)) <= colors
    flat = torch.zeros(1, 3, *SIZE)
    flat[..., :20] = 1  # black and white
    assert torch.equal(apply("color_quantization(colors=2)", flat), flat)


def test_resize_keeps_means_and_loses_detail(pixels: Tensor) -> None:
    x = pixels.float() / 255
    small = apply("resize(factor=0.25)", x)
    assert torch.allclose(small.mean((2, 3)), x.mean((2, 3)), atol=0.02)
    checks = (torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])).remainder(2).float().expand(1, 3, *SIZE)
    assert float((apply("resize", checks) - 0.5).abs()[..., 4:-4, 4:-4].max()) < 0.05


def test_a_flip_mirrors_and_a_crop_is_from_the_image() -> None:
    x = torch.arange(60.0).view(1, 1, 1, 60).expand(8, 3, 40, 60) / 60
    flipped = apply("flip", x, "q")
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, x)]
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, flipped, x))
    assert 0 < sum(mirrored) < len(x)
    assert torch.equal(apply("flip(p=1)", x), x.flip(-1))
    crops = apply("random_crop(keep=0.5)", x)
    starts = crops[:, 0, 0, 0] * 60
    assert ((starts > -0.5) & (starts < 31)).all()
    assert len(starts.unique()) > 4
    slopes = (crops[..., 50] - crops[..., 10])[:, 0, 0] * 60 / 40
    assert torch.allclose(slopes, torch.full((8,), 0.5), atol=1e-3)  # enlarged to twice the size


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jpeg(quality=0)", r"quality in \[1, 100\], found 0"),
        ("bit_depth(bits=9)", r"bits in \[1, 8\], found 9"),
        ("color_quantization(colors=1)", r"colors in \[2, 256\], found 1"),
        ("median(size=4)", "odd size ≥ 1, found 4; nearest: 5"),
        ("gaussian(size=0)", "odd size ≥ 1, found 0; nearest: 1"),
        ("unsharp(amount=-1)", "amount ≥ 0, found -1"),
        ("unsharp(size=2)", "odd size ≥ 1, found 2"),
        ("resize(factor=2)", r"factor in \(0, 1\], found 2"),
        ("flip(p=2)", r"p in \[0, 1\], found 2"),
        ("flip(draws=0)", "draws ≥ 1, found 0"),
        ("random_crop(keep=0)", r"keep in \(0, 1\], found 0"),
        ("median_smoothing(sigma=0)", "sigma > 0, found 0"),
        ("median_smoothing(n=0)", "n ≥ 1, found 0"),
        ("median_smoothing(radius=-1)", "radius ≥ 0, found -1"),
        ("median_smoothing(confidence=1)", r"confidence in \(0, 1\), found 1"),
    ],
)
def test_values_that_make_no_sense_are_named(spec: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_defense(spec)


# Median smoothing


def greys(n: int, size: int = 8) -> Tensor:
    """Random images whose values no noise of 0.02 takes out of [0, 1]."""
    return 0.4 + 0.2 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [1, 4, 5])
def test_the_score_is_the_median_over_noise_of_the_images_own(n: int) -> None:
    x, net = images(size=SIZE).float() / 255, CurvedNet(0)
    smoothed = MedianSmoothing(n=n, sigma=0.2, seed=7).before(net)
    for i, score in enumerate(smoothed(x).tolist()):
        digest = hashlib.sha256(x[i].numpy().tobytes()).hexdigest()
        noise = torch.stack([Streams([digest], "median_smoothing", 7, k).normal(x[i : i + 1])[0] for k in range(n)])
        scores = net((x[i] + 0.2 * noise).clamp(0, 1)).detach().double().numpy()
        assert score == pytest.approx(float(np.median(scores)), abs=1e-4)


def test_an_attack_is_given_the_score_and_the_mean_gradient_of_the_draws() -> None:
    x = images(size=SIZE).float() / 255
    scorer = Scorer(build_model("median_smoothing(n=9, draws=3)|toy_curved"))
    value, gradient = scorer.value_and_gradient(x)
    assert torch.equal(value, scorer.score(x))
    apart = torch.cat([scorer.score(part) for part in x.split(2)])
    assert torch.equal(value, apart)
    leaf = x.clone().requires_grad_()
    noisy, net = MedianSmoothing(draws=3).before(CurvedNet(0)), CurvedNet(0)
    mean = torch.stack([net(noisy.purify(leaf, k)) for k in range(3)]).mean(0)
    torch.testing.assert_close(gradient, torch.autograd.grad(mean.sum(), leaf)[0])


@pytest.mark.parametrize(("n", "p", "alpha"), [(100, 0.159, 0.0005), (100, 0.5, 0.0005), (7, 0.4, 0.3), (1, 0.9, 0.2)])
def test_the_rank_of_a_bound_is_the_highest_that_the_laws_of_order_statistics_allow(
    n: int, p: float, alpha: float
) -> None:
    """The k-th smallest of n uniform numbers is Beta(k, n + 1 − k), and above p if fewer than k numbers are below."""
    rank = lower_rank(n, p, alpha)
    assert rank > 0
    assert beta.sf(p, rank, n + 1 - rank) <= alpha
    assert binom.cdf(rank - 1, n, p) <= alpha < binom.cdf(rank, n, p)


def test_no_bound_is_claimed_beyond_the_radius_that_the_draws_carry_to() -> None:
    net, x = LinearNet(0), greys(1)
    furthest = 0.12 * float(norm.ppf(0.0005 ** (1 / 100)))
    assert furthest == pytest.approx(0.174, abs=5e-4)
    low, high = MedianSmoothing(radius=furthest - 1e-6).before(net).certificate(x)[0].tolist()
    assert low < high < np.inf
    for radius in (furthest + 1e-6, 1e6):
        assert MedianSmoothing(radius=radius).before(net).certificate(x).tolist() == [[-np.inf, np.inf]]


def test_the_bounds_hold_as_often_as_they_say_and_no_more() -> None:
    """Under noise, a linear score is normal: its median moves by exactly ± radius · ‖w‖ within the radius."""
    net, x = LinearNet(0), greys(500)
    defense = MedianSmoothing(sigma=0.02, n=20, radius=0.015, confidence=0.5)
    low, high = defense.before(net).certificate(x).T
    exact, reach = net(x).detach(), defense.radius * net.weights(x).norm().detach()
    p = float(norm.cdf(-defense.radius / defense.sigma))
    missed = float(binom.cdf(lower_rank(20, p, 0.25) - 1, 20, p))
    assert 0.05 < missed <= 0.25
    for above in (low > exact - reach, high < exact + reach):
        assert above.double().mean() == pytest.approx(missed, abs=4 * (missed * (1 - missed) / len(x)) ** 0.5)


def test_official_bounds_hold_for_the_worst_perturbation_inside_the_radius() -> None:
    net, x = LinearNet(1), greys(20, 16)
    defense = MedianSmoothing(sigma=0.03, radius=0.03)
    smoothed, w = defense.before(net), net.weights(x).detach()
    low, high = smoothed.certificate(x).T
    for sign, bound in ((-1, low), (1, high)):
        moved = net(x + sign * defense.radius * w / w.norm()).detach()  # the exact median there
        assert (sign * (bound - moved) > 0).all()
    assert (high - low < 10 * defense.radius * w.norm()).all()


def test_only_a_chain_that_begins_with_smoothing_has_bounds() -> None:
    x = images(size=SIZE).float() / 255
    chains = {
        "median_smoothing(n=20)|gaussian|toy_curved": True,
        "median_smoothing(n=20)|jpeg(quality=70)|toy_curved": True,
        "jpeg|median_smoothing(n=20)|toy_curved": False,
        "gaussian|toy_curved": False,
    }
    for spec, certified in chains.items():
        net = build_model(spec).load()
        assert isinstance(net, Certified) == certified, spec
        if isinstance(net, Certified):
            low, high = net.certificate(x).T
            assert torch.equal(net.certificate(x[2:3]), net.certificate(x)[2:3])
            assert ((low <= net(x)) & (net(x) <= high)).all()  # pyright: ignore[reportCallIssue]
