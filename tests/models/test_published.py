"""Our own files of published scorers: against second implementations and, where they are at hand, the real weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from opinions import write_opinions
from scipy.signal import convolve2d
from torch import nn
from torchvision.transforms.functional import normalize

from iqarena.api import WeightsError
from iqarena.files import weights
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_model
from iqarena.testing import check_model
from iqarena_models import linearityiqa, published
from iqarena_models.cnniqa_live import PatchCnniqa, normalised
from iqarena_models.common_scale import CommonScale
from iqarena_models.linearityiqa import LinearityNet, load_checkpoint, resized
from iqarena_models.liqe_style import LiqeStyleNet
from iqarena_models.scnn import LEVELS, Scnn
from iqarena_models.training.linearityiqa import train_linearityiqa
from iqarena_models.zoo.net import MEAN, STD

real = pytest.mark.skipif(
    "IQARENA_TEST_WEIGHTS" not in os.environ,
    reason="needs the published files: IQARENA_TEST_WEIGHTS=folder",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder whose files may have any content."""
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(tmp_path))
    monkeypatch.setenv(weights.OFFLINE, "1")
    monkeypatch.setattr(published, "weight_file", lambda name: weights.WeightFile(name))
    return tmp_path


def test_local_normalisation_is_that_of_the_plain_formula() -> None:
    patches = np.random.default_rng(0).random((3, 32, 32))
    kernel = np.full((3, 3), 1 / 9)
    for patch in patches:
        mean = convolve2d(patch, kernel, boundary="symm", mode="same")
        deviation = np.sqrt(convolve2d(patch**2, kernel, boundary="symm", mode="same") - mean**2)
        actual = normalised(torch.from_numpy(patch)[None, None])[0, 0].numpy()
        np.testing.assert_allclose(actual, (patch - mean) / (deviation + 1), atol=1e-5)


def test_cnniqa_is_the_mean_over_whole_patches() -> None:
    torch.manual_seed(0)
    net = PatchCnniqa().eval()
    x = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        each = [net(x[..., i : i + 33, j : j + 33]) for i in (0, 32) for j in (0, 32, 64)]
        assert torch.allclose(net(x), torch.stack(each).mean(0), atol=1e-5)
        assert torch.equal(net(x[..., :64, :96]), net(x[..., :63, :95])), "a row that ends at the border is left out"


def test_large_images_are_reduced_but_not_below_what_a_scorer_needs() -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape[-2:]))
            return x.mean((1, 2, 3))

    net = CommonScale(Watching(), 0, 1, max_side=100, min_size=60)
    x = torch.rand(1, 3, 150, 200)
    for size in ((150, 200), (100, 80), (100, 200), (61, 400)):
        net(x[..., :1, :1].expand(1, 3, *size))
    assert seen == [(75, 100), (100, 80), (60, 120), (60, 393)]


def test_the_common_scale_is_a_straight_line_through_the_ends() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 6.0])[:, None, None, None].expand(4, 3, 2, 2)

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))

    assert CommonScale(Mean(), 1, 5)(x).tolist() == [0, 50, 100, 125]
    assert CommonScale(Mean(), 5, 1)(x).tolist() == [100, 50, 0, -25]


def test_scnn_has_the_authors_layout_and_its_levels() -> None:
    state = Scnn().state_dict()
    assert len(LEVELS) == 39
    assert LEVELS[5] == 0
    assert state["features.0.weight"].shape == (48, 3, 3, 3)
    assert state["features.24.weight"].shape == (128, 128, 3, 3)
    assert state["projection.3.weight"].shape == (256, 256, 1, 1)
    assert state["classifier.weight"].shape == (39, 256)


@pytest.mark.parametrize(
    ("spec", "network"),
    [
        ("cnniqa_live", PatchCnniqa),
        ("scnn", Scnn),
        ("liqe_style(backbone=test_resnet)", lambda: LiqeStyleNet("test_resnet")),
    ],
)
def test_random_weights_conform(spec: str, network: Callable[[], nn.Module], folder: Path) -> None:
    """Random parameters: only the path and the mathematics are tested."""
    torch.manual_seed(0)
    model = build_model(spec)
    torch.save(network().state_dict(), folder / model.files[0].name)
    for what, check in check_model(model):
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None


def save_linearity(path: Path, resnet: str = "resnet18") -> None:
    torch.manual_seed(0)
    torch.save({"model": LinearityNet(resnet).state_dict(), "k": [10.0, 3.0], "b": [60.0, 1.0]}, path)


def test_linearityiqa_conforms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images shrink to this size: enlarged ones repeat pixels, whose ties in the maximum have no derivative."""
    monkeypatch.setattr(linearityiqa, "SIZE", (14, 20))
    save_linearity(folder / "mine.pth")
    for what, check in check_model(build_model("linearityiqa(resnet=resnet18, weights=mine.pth)")):
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None


def test_linearityiqa_has_the_published_layout() -> None:
    with torch.device("meta"):
        state = LinearityNet().state_dict()
    assert state["features.0.weight"].shape == (64, 3, 7, 7)
    assert state["features.7.2.conv3.weight"].shape == (2048, 2048, 1, 1)
    for tap, width in (("dr6", 1024), ("dr7", 2048)):
        shapes = [tuple(state[f"{tap}.{i}.weight"].shape) for i in range(6)]
        assert shapes == [(1024, width), (1024,), (256, 1024), (256,), (64, 256), (64,)]
    assert state["regr6.weight"].shape == state["regr7.weight"].shape == (1, 64)
    assert state["regression.weight"].shape == (1, 128)
    assert not {"k", "b"} & state.keys(), "they stand beside the state"


def test_linearityiqa_applies_the_checkpoint_s_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearityiqa, "SIZE", (64, 96))
    save_linearity(tmp_path / "net.pth")
    net = load_checkpoint(tmp_path / "net.pth", "resnet18").eval()
    x = torch.rand(2, 3, 80, 70)
    with torch.no_grad():
        torch.testing.assert_close(net(x), 10 * net.ratings(resized(x))[:, 2] + 60)
        assert isinstance(net.features, nn.Sequential)
        tap = net.features[:-1](normalize(resized(x), [*MEAN], [*STD]))
        torch.testing.assert_close(net.ratings(resized(x))[:, :1], net.regr6(net.dr6(tap.mean((2, 3)))))


def test_linearityiqa_refuses_other_layouts(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(
        WeightsError, match=r"expected a checkpoint with 'model', 'k' and 'b', found none of \['k', 'b'\]"
    ):
        load_checkpoint(path, "resnet18")
    save_linearity(path)
    with pytest.raises(WeightsError, match="expected the parameters of LinearityNet, found another architecture's"):
        load_checkpoint(path, "resnet34")
    for k in ([], "x", None):
        torch.save(torch.load(path, weights_only=True) | {"k": k}, path)
        with pytest.raises(WeightsError, match="expected one number each in 'k' and 'b'"):
            load_checkpoint(path, "resnet18")


def test_linearityiqa_starts_from_torchvisions_weights_and_is_loaded_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_ladders: None
) -> None:
    monkeypatch.setattr(linearityiqa, "SIZE", (24, 32))
    data = write_opinions(folder / "data")
    scorer = build_model("linearityiqa(resnet=resnet18)")
    facts = train_linearityiqa(scorer, from_scratch=True).train(data, folder / "out", epochs=1)
    (folder / "linearityiqa.pth").write_bytes((folder / "out" / "linearityiqa.pth").read_bytes())
    model = build_model("linearityiqa(resnet=resnet18, weights=linearityiqa.pth)")
    assert model.weights_sha256 == facts["sha256"]
    assert bool(model.load()(torch.rand(2, 3, 70, 96)).isfinite().all())
    with pytest.raises(WeightsError, match=r"expected the weights resnet18-f37072fd\.pth, found none in"):
        train_linearityiqa(scorer).train(data, folder / "x", epochs=1)


def photos() -> dict[str, torch.Tensor]:
    """A part of the embedded images: as it is, blurred, and as hard JPEG."""
    images = PocketImages()
    clean = [images.read(item) for item in images.items() if "+" not in item.id]
    blurred = [cv2.GaussianBlur(p, (0, 0), 4) for p in clean]
    jpeg = [cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 5])[1], cv2.IMREAD_COLOR) for p in clean]
    return {
        kind: torch.from_numpy(np.stack([p[64:256, 64:320] for p in subset])).permute(0, 3, 1, 2).float() / 255
        for kind, subset in {"clean": clean, "blur": blurred, "jpeg": jpeg}.items()
    }


@real
@pytest.mark.parametrize("name", ["cnniqa_live", "scnn"])
def test_published_parameters_rank_degradations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.WEIGHTS_DIR, os.environ["IQARENA_TEST_WEIGHTS"])
    monkeypatch.setenv(weights.OFFLINE, "1")
    net = build_model(name).load()
    with torch.inference_mode():
        mean = {kind: float(net(x).mean()) for kind, x in photos().items()}
    assert mean["clean"] > mean["blur"] + 20
    assert mean["clean"] > mean["jpeg"] + 20
