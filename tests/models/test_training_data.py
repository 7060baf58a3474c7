"""What a training sees: images with opinion scores, views of them, degraded pairs, and the losses on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iqarena.images.tensors import to_float
from iqarena_models.training import data
from iqarena_models.training.data import Images, read_opinions
from iqarena_models.training.losses import correlation_mse, norm_in_norm, rank_hinge
from iqarena_models.training.views import Views, at_least, batches, degraded_pair, in_units, view


def test_views_depend_on_seed_epoch_and_image_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opinions = read_opinions(folder)
    images = Images(opinions.files, tmp_path)

    def drawn(size: int, seed: int = 0, epoch: int = 0) -> Tensor:
        number, built = batches(Views((24,)), images, opinions, size, seed=seed, epoch=epoch)
        batch = list(built)
        assert len(batch) == number == 16 // size
        return torch.cat([part.images for part in batch])

    once = drawn(8)
    assert once.shape == (16, 24, 24, 3)
    monkeypatch.setattr(data.os, "cpu_count", lambda: 1)
    assert torch.equal(once, drawn(2))
    assert not torch.equal(once, drawn(8, seed=1))
    assert not torch.equal(once, drawn(8, epoch=1))


def test_views_are_parts_of_the_image_or_the_resized_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), (0, 1)).transpose(0, 1, 3, 4, 2)
    mirrored = 0
    for seed in range(20):
        crop = view(image, 24, True, np.random.default_rng(seed))
        as_is, flipped = ((windows == part).all((2, 3, 4)).any() for part in (crop, crop[:, ::-1]))
        assert as_is != flipped
        mirrored += flipped
    assert 0 < mirrored < 20
    full = view(image, (20, 28), False, np.random.default_rng(0))
    expected = torch.nn.functional.interpolate(to_float([image]), (20, 28), mode="bilinear", antialias=True)
    assert full.shape == (20, 28, 3)
    torch.testing.assert_close(to_float([full]), expected, atol=1.01 / 255, rtol=0)
    assert at_least(image.shape[:2], 80) == (80, 112)
    assert view(image, 80, True, np.random.default_rng(0)).shape == (80, 80, 3)


def test_a_batch_holds_images_then_weak_then_strong_degradations(folder: Path, tmp_path: Path) -> None:
    opinions = read_opinions(folder)
    views = Views((24, (32, 40)), mirror=False, degraded=3)
    _, built = batches(views, Images(opinions.files, tmp_path), opinions, 8, seed=0, epoch=0)
    for batch in built:
        assert batch.images.shape in ((14, 24, 24, 3), (14, 32, 40, 3))
        assert bool((batch.strength[:, 0] < batch.strength[:, 1]).all())
        plain, weak, strong = batch.images[:3].float(), batch.images[8:11].float(), batch.images[11:].float()
        errors = [(part - plain).square().mean((1, 2, 3)) for part in (weak, strong)]
        apart = batch.strength.diff()[:, 0] > 0.1  # of tiny images, close strengths may do the same
        assert bool((errors[0] < errors[1])[apart].all())
        assert bool(apart.any())
    on_device = batch.to("cpu", torch.channels_last)
    torch.testing.assert_close(on_device.images[0], to_float([batch.images[0].numpy()])[0])


def test_equal_steps_of_strength_are_equal_ratios() -> None:
    assert [in_units("blur", u) for u in (0, 0.5, 1)] == pytest.approx([0.4, (0.4 * 6) ** 0.5, 6])
    assert [100 - in_units("jpeg", u) for u in (0, 0.5, 1)] == pytest.approx([70, (70 * 4) ** 0.5, 4])
    image = np.full((16, 16, 3), 128, np.uint8)
    pairs = [degraded_pair(image, np.random.default_rng(seed))[2] for seed in range(30)]
    assert min(strong - weak for weak, strong in pairs) < 0.1 < 0.6 < max(strong - weak for weak, strong in pairs)


def test_losses_against_their_definitions() -> None:
    rng = np.random.default_rng(0)
    r, y = rng.normal(size=(2, 16))
    a, b = (v - v.mean() for v in (r, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    r_t, y_t = torch.from_numpy(r), torch.from_numpy(y)
    assert float(norm_in_norm(r_t, y_t)) == pytest.approx(np.abs(a - b).sum() / (2 * np.sqrt(16)), rel=1e-6)
    assert float(norm_in_norm(3 * y_t + 5, y_t)) == pytest.approx(0, abs=1e-6)
    expected = (1 - np.corrcoef(r, y)[0, 1]) / 2 + 0.1 * np.mean((r - y) ** 2)
    assert float(correlation_mse(r_t, y_t)) == pytest.approx(expected, rel=1e-6)
    assert float(rank_hinge(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)) == pytest.approx(0.75)
